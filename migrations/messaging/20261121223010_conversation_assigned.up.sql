-- mainstay:no-transaction
create index concurrently conversation_assigned_idx on conversation (tenant_id, assigned_to, last_activity_at desc, id desc);
