drop table member;
drop table person;
drop table agency_slug;
drop table agency;
