delete from retention where table_name in ('inbox_event', 'outbox_event');
drop table inbox_event;
drop table outbox_delivery;
drop sequence outbox_fence;
drop table outbox_event;
