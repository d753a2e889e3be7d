drop table audit_outbox;
delete from retention where table_name = 'idempotency_key';
drop table idempotency_key;
