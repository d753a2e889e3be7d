-- Events leave in the transaction of their cause (outbox) and take effect once at each consumer (inbox).

create table outbox_event (
  id              uuid        not null,
  type            text        not null,
  schema_version  integer     not null,
  agency_id       uuid        not null,
  tenant_id       uuid,
  aggregate_type  text        not null,
  aggregate_id    text        not null,
  -- taken under the aggregate's row lock, so commit order is sequence order
  sequence        bigint      not null,
  occurred_at     timestamptz not null,
  actor           text        not null,
  causation_id    text,
  causation_depth integer     not null default 0,
  traceparent     text,
  payload         jsonb       not null,
  created_at      timestamptz not null default now(),
  expires_at      timestamptz not null default now() + interval '7 days',
  constraint outbox_event_pkey primary key (id),
  constraint outbox_event_sequence_key unique (aggregate_type, aggregate_id, sequence),
  -- a chain of causes this long is a loop
  constraint outbox_event_causation_depth_check check (causation_depth between 0 and 16)
);
create index outbox_event_expires_idx on outbox_event (expires_at);
call operator_table('outbox_event', 'insert');

create sequence outbox_fence as bigint;

create table outbox_delivery (
  event_id        uuid        not null,
  consumer        text        not null,
  aggregate_type  text        not null,
  aggregate_id    text        not null,
  sequence        bigint      not null,
  agency_id       uuid        not null,
  tenant_id       uuid,
  -- pending -> (delivered: the row is deleted) | parked; parked blocks its aggregate for this consumer until it is
  -- replayed (pending again) or skipped with a note (deleted, audited)
  state           text        not null default 'pending',
  attempt         integer     not null default 0,
  next_attempt_at timestamptz not null,
  last_error      text,
  fence           bigint      not null default 0,
  leased_until    timestamptz,
  created_at      timestamptz not null default now(),
  constraint outbox_delivery_pkey primary key (event_id, consumer),
  constraint outbox_delivery_event_fkey foreign key (event_id) references outbox_event (id),
  constraint outbox_delivery_order_key unique (consumer, aggregate_type, aggregate_id, sequence),
  constraint outbox_delivery_state_check check (state in ('pending', 'parked'))
) with (fillfactor = 70);
create index outbox_delivery_due_idx on outbox_delivery (consumer, next_attempt_at, event_id) where state = 'pending';
create index outbox_delivery_parked_idx on outbox_delivery (agency_id, consumer) where state = 'parked';
call operator_table('outbox_delivery', 'insert, select');
call expires('outbox_event', 'not exists (select from outbox_delivery d where d.event_id = outbox_event.id)');

-- What this service has taken in, by handler. Kept beyond any sender's horizon of redelivery.
create table inbox_event (
  event_id    uuid        not null,
  consumer    text        not null,
  received_at timestamptz not null default now(),
  created_at  timestamptz not null default now(),
  expires_at  timestamptz not null default now() + interval '60 days',
  constraint inbox_event_pkey primary key (event_id, consumer)
);
create index inbox_event_expires_idx on inbox_event (expires_at);
call infrastructure_table('inbox_event');
call expires('inbox_event');

do $$
begin
  execute format('grant usage on sequence outbox_fence to %I', service_role('worker'));
end
$$;
