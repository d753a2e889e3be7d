-- mainstay:no-transaction
create index concurrently provider_endpoint_read_idx on provider_endpoint (read_due_at);
