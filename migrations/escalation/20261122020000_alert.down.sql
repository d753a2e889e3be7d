drop table alert_notice;
drop table alert_route;
delete from retention where table_name = 'alert_item';
drop table alert_item;
drop table alert;
