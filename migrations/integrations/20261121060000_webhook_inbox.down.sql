drop table webhook_event;
drop function webhook_slot(uuid);
delete from retention where table_name = 'webhook_dedup';
drop table webhook_dedup;
