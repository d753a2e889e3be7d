-- Conversations, messages, and what sends them. A message leaves only by an attempt, an attempt stands only on a permit, and
-- a permit is used once: the keys say so.

create table conversation (
  agency_id        uuid        not null,
  tenant_id        uuid        not null,
  id               uuid        not null,
  lead_id          uuid        not null,
  channel          text        not null,
  -- ours: a number or a mail address
  sender           text        not null,
  -- theirs
  address          text        not null,
  state            text        not null default 'open',
  unread           bigint      not null default 0,
  last_activity_at timestamptz not null,
  revision         bigint      not null default 1,
  created_at       timestamptz not null default now(),
  updated_at       timestamptz not null default now(),
  constraint conversation_pkey primary key (tenant_id, id),
  constraint conversation_lead_fkey foreign key (tenant_id, lead_id) references lead (tenant_id, id),
  constraint conversation_channel_check check (channel in ('sms', 'whatsapp', 'email', 'voice')),
  constraint conversation_state_check check (state in ('open', 'closed')),
  constraint conversation_unread_check check (unread >= 0)
);
-- Three texts of a new lead at once find one open conversation, not three.
create unique index conversation_open_key on conversation (tenant_id, lead_id, channel, sender) where state = 'open';
create index conversation_lead_fkey_idx on conversation (tenant_id, lead_id);
create index conversation_activity_idx on conversation (tenant_id, last_activity_at desc, id desc);
call client_table('conversation');

create table message (
  agency_id       uuid        not null,
  tenant_id       uuid        not null,
  id              uuid        not null,
  conversation_id uuid        not null,
  lead_id         uuid        not null,
  direction       text        not null,
  channel         text        not null,
  sender          text        not null,
  address         text        not null,
  -- none for what they wrote
  purpose         text,
  -- who caused it: mem_…, key_…, service:…; `lead` for what they wrote
  caused_by       text        not null,
  -- what there can be only one of: one confirmation of an opt-out, one reminder of an appointment
  once_key        text,
  subject         text,
  body            text        not null,
  status          text        not null,
  error_code      text,
  error           text,
  -- when it was meant to leave; none for at once
  send_at         timestamptz,
  -- after this it does not leave any more
  expires_at      timestamptz,
  attempts        int         not null default 0,
  -- when it was first let go
  permitted_at    timestamptz,
  -- whether the cap on frequency bound it then: those are what it counts
  capped          boolean     not null default false,
  -- the period it was counted in
  counted_in      text,
  provider        text,
  provider_id     text,
  traceparent     text,
  sent_at         timestamptz,
  delivered_at    timestamptz,
  revision        bigint      not null default 1,
  created_at      timestamptz not null default now(),
  updated_at      timestamptz not null default now(),
  constraint message_pkey primary key (tenant_id, id),
  constraint message_conversation_fkey foreign key (tenant_id, conversation_id) references conversation (tenant_id, id),
  constraint message_direction_check check (
    case direction when 'inbound' then status = 'received' and purpose is null
                   when 'outbound' then status <> 'received' and purpose is not null and expires_at is not null end),
  constraint message_status_check check (status in ('received', 'scheduled', 'queued', 'sending', 'ambiguous', 'sent',
    'delivered', 'read', 'undelivered', 'failed', 'canceled', 'blocked', 'expired')),
  constraint message_body_check check (length(body) <= 100000),
  constraint message_permitted_check check ((attempts > 0) = (permitted_at is not null))
);
create index message_conversation_idx on message (tenant_id, conversation_id, id);
-- What the gate asks of an address: what they wrote last, what they got lately.
create index message_inbound_idx on message (tenant_id, address, created_at desc) where direction = 'inbound';
create index message_capped_idx on message (tenant_id, address, permitted_at desc) where capped;
create unique index message_once_key on message (tenant_id, once_key) where once_key is not null;
-- The same message of a provider is stored once.
create unique index message_provider_key on message (tenant_id, provider, provider_id) where provider_id is not null;
create index message_lead_idx on message (tenant_id, lead_id, id desc);
call client_table('message');

-- How a message came to its status.
create table message_event (
  agency_id  uuid        not null,
  tenant_id  uuid        not null,
  id         uuid        not null,
  message_id uuid        not null,
  status     text        not null,
  -- what was found, refused or answered, for people
  detail     text,
  created_at timestamptz not null default now(),
  constraint message_event_pkey primary key (tenant_id, id),
  constraint message_event_message_fkey foreign key (tenant_id, message_id) references message (tenant_id, id)
);
create index message_event_message_idx on message_event (tenant_id, message_id, id);
call client_table('message_event');
call append_only('message_event');

-- The decision that let one attempt of one message go: what every rule found, signed. It is the record of the law's kind.
create table send_permit (
  agency_id    uuid        not null,
  tenant_id    uuid        not null,
  id           uuid        not null,
  message_id   uuid        not null,
  attempt      int         not null,
  channel      text        not null,
  purpose      text        not null,
  address      text        not null,
  content_hash bytea       not null,
  rule_version int         not null,
  evidence     jsonb       not null,
  decided_at   timestamptz not null,
  expires_at   timestamptz not null,
  signature    bytea       not null,
  created_at   timestamptz not null default now(),
  constraint send_permit_pkey primary key (tenant_id, id),
  constraint send_permit_attempt_key unique (tenant_id, message_id, attempt),
  constraint send_permit_message_fkey foreign key (tenant_id, message_id) references message (tenant_id, id),
  constraint send_permit_life_check check (expires_at > decided_at and expires_at <= decided_at + interval '5 minutes'),
  constraint send_permit_signature_check check (length(signature) = 32 and length(content_hash) = 32)
);
call client_table('send_permit');
call append_only('send_permit');

-- One try of handing a message to a provider. A callback that names only the attempt finds its tenant here.
create table message_attempt (
  agency_id   uuid        not null,
  tenant_id   uuid        not null,
  id          uuid        not null,
  message_id  uuid        not null,
  permit_id   uuid        not null,
  account_id  text        not null,
  provider    text        not null,
  sender      text        not null,
  state       text        not null default 'started',
  provider_id text,
  code        text,
  detail      text,
  probes      int         not null default 0,
  -- by the world's clock, which providers go by
  created_at  timestamptz not null default now(),
  updated_at  timestamptz not null default now(),
  constraint message_attempt_pkey primary key (id),
  constraint message_attempt_permit_key unique (tenant_id, permit_id),
  constraint message_attempt_permit_fkey foreign key (tenant_id, permit_id) references send_permit (tenant_id, id),
  constraint message_attempt_message_fkey foreign key (tenant_id, message_id) references message (tenant_id, id),
  constraint message_attempt_state_check check (state in ('started', 'unknown', 'accepted', 'refused')),
  constraint message_attempt_accepted_check check (state <> 'accepted' or provider_id is not null)
);
create index message_attempt_message_idx on message_attempt (tenant_id, message_id, created_at);
create index message_attempt_unknown_idx on message_attempt (created_at) where state = 'unknown';
create unique index message_attempt_provider_key on message_attempt (provider, account_id, provider_id) where provider_id is not null;
call operator_table('message_attempt', 'select');

-- Messages that are to leave. A row goes when its message has left or never will.
create table send_queue (
  agency_id       uuid        not null,
  tenant_id       uuid        not null,
  message_id      uuid        not null,
  conversation_id uuid        not null,
  -- whose rate it counts against: channel and sender
  lane            text        not null,
  -- when it was meant to leave: within a conversation nothing overtakes
  ready_at        timestamptz not null,
  position        bigint      generated always as identity,
  -- when to try next
  due_at          timestamptz not null,
  leased_by       uuid,
  leased_until    timestamptz,
  fence           bigint      not null default 0,
  created_at      timestamptz not null default now(),
  constraint send_queue_pkey primary key (tenant_id, message_id),
  constraint send_queue_message_fkey foreign key (tenant_id, message_id) references message (tenant_id, id)
);
create index send_queue_due_idx on send_queue (lane, due_at, position);
create index send_queue_conversation_idx on send_queue (tenant_id, conversation_id, ready_at, position);
call operator_table('send_queue', 'select');
create sequence send_fence;
do $$ begin execute format('grant usage on sequence send_fence to %I', service_role('worker')); end $$;

-- How fast a sender may send, and from when on it may again.
create table send_lane (
  lane         text        not null,
  rate         float8      not null,
  next_free_at timestamptz not null,
  created_at   timestamptz not null default now(),
  updated_at   timestamptz not null default now(),
  constraint send_lane_pkey primary key (lane),
  constraint send_lane_rate_check check (rate > 0 and rate <= 100000)
);
create index send_lane_free_idx on send_lane (next_free_at);
call infrastructure_table('send_lane');

-- How many messages a client has sent in a period, which its plan counts.
create table message_counter (
  agency_id  uuid        not null,
  tenant_id  uuid        not null,
  period     text        not null,
  sent       bigint      not null,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  constraint message_counter_pkey primary key (tenant_id, period),
  constraint message_counter_sent_check check (sent >= 0)
);
call client_table('message_counter');

-- Addresses that turned out to reach nobody.
create table address_suppression (
  agency_id  uuid        not null,
  tenant_id  uuid        not null,
  channel    text        not null,
  address    text        not null,
  reason     text        not null,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  constraint address_suppression_pkey primary key (tenant_id, channel, address)
);
call client_table('address_suppression');
