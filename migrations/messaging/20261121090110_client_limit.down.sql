drop table saga_step;
drop table client_limit;
drop function client_limit_version_rises();
delete from retention where table_name = 'saga_step';
