-- What a provider took and of which it told nothing more: it is asked, a few times.
alter table message_attempt
  -- when it is asked next; null when it need not be
  add column ask_at timestamptz,
  -- how often it answered that it knew no more
  add column asks   int not null default 0;
alter table message_attempt
  add constraint message_attempt_ask_check check (asks >= 0 and (ask_at is null or state = 'accepted')) not valid;
