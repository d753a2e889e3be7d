-- mainstay:no-transaction
create index concurrently message_attempt_ask_idx on message_attempt (ask_at) where ask_at is not null;
