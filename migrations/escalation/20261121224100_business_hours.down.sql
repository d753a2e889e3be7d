drop table business_hours;
