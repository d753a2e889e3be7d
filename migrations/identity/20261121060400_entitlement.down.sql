drop table saga_step;
drop table entitlement;
drop function entitlement_version_rises();
delete from retention where table_name = 'saga_step';
