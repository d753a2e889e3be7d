drop trigger agency_begins_with_an_owner on agency;
drop trigger agency_keeps_an_owner on member;
drop table role_binding;
drop table role_permission;
drop table role;
drop function keep_an_owner();
drop function begin_with_an_owner();
