-- Where a message goes when its own channel fails for certain, and what came of that. One for a message.

create table message_fallback (
  agency_id  uuid        not null,
  tenant_id  uuid        not null,
  message_id uuid        not null,
  channel    text        not null,
  -- of mail
  subject    text,
  state      text        not null default 'waiting',
  -- the message that went instead
  instead_id uuid,
  -- why none did
  reason     text,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  constraint message_fallback_pkey primary key (tenant_id, message_id),
  constraint message_fallback_message_fkey foreign key (tenant_id, message_id) references message (tenant_id, id),
  constraint message_fallback_instead_fkey foreign key (tenant_id, instead_id) references message (tenant_id, id),
  constraint message_fallback_channel_check check (channel in ('sms', 'email')),
  constraint message_fallback_state_check check (state in ('waiting', 'ended')),
  constraint message_fallback_outcome_check check ((state = 'ended') = (instead_id is not null or reason is not null))
);
create index message_fallback_instead_fkey_idx on message_fallback (tenant_id, instead_id);
call client_table('message_fallback');
