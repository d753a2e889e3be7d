-- The webhook inbox. What has been seen is remembered in a narrow table of its own, because a unique index on a table
-- that is partitioned by time would have to contain the time, and then could not find a repetition.

create table webhook_dedup (
  provider         text        not null,
  account          text        not null,
  event_key        text        not null,
  webhook_event_id uuid        not null,
  created_at       timestamptz not null default now(),
  -- Beyond any sender's horizon of replay (Stripe: 30 days), and beyond the life of the row in webhook_event. Each
  -- repetition moves it on.
  expires_at       timestamptz not null,
  constraint webhook_dedup_pkey primary key (provider, account, event_key),
  constraint webhook_dedup_length_check
    check (length(provider) between 1 and 40 and length(account) between 1 and 255 and length(event_key) between 1 and 255)
);
create index webhook_dedup_expires_idx on webhook_dedup (expires_at);
call infrastructure_table('webhook_dedup');
call expires('webhook_dedup');

-- Time partitions as a ring of sixteen weeks. A UUIDv7 begins with its milliseconds, so the id alone tells the week.
-- All partitions exist from the first day: there is no partition to make ahead, none that can be missing when a
-- webhook comes, no default partition, and nobody who needs to own tables while the service runs. A week that is past
-- its retention is emptied by TRUNCATE, which costs the same however much is in it.
create function webhook_slot(id uuid) returns smallint
  language sql immutable strict parallel safe
  return (('x' || left(replace(id::text, '-', ''), 12))::bit(48)::bigint / 604800000 % 16)::smallint;

create table webhook_event (
  id           uuid        not null,
  slot         smallint    not null,
  -- The agency and client it is about, once the owner of its meaning has said so.
  agency_id    uuid,
  tenant_id    uuid,
  provider     text        not null,
  account      text        not null,
  event_key    text        not null,
  type         text        not null,
  state        text        not null default 'received',
  attempts     integer     not null default 0,
  outcome      text,
  error        text,
  traceparent  text,
  content_type text        not null,
  -- the bytes that were signed
  body         bytea       not null,
  received_at  timestamptz not null,
  processed_at timestamptz,
  created_at   timestamptz not null default now(),
  updated_at   timestamptz not null default now(),
  constraint webhook_event_pkey primary key (id, slot),
  constraint webhook_event_slot_check check (slot = webhook_slot(id)),
  constraint webhook_event_state_check check (state in ('received', 'processed', 'failed', 'dead')),
  constraint webhook_event_processed_check
    check ((state = 'processed') = (processed_at is not null) and (state <> 'processed' or error is null)),
  constraint webhook_event_failure_has_reason_check check (state not in ('failed', 'dead') or error is not null),
  constraint webhook_event_tenant_needs_agency_check check (tenant_id is null or agency_id is not null),
  constraint webhook_event_attempts_check check (attempts >= 0),
  constraint webhook_event_length_check
    check (length(type) between 1 and 255 and length(content_type) <= 255 and octet_length(body) <= 2097152
           and coalesce(length(error), 0) <= 2000 and coalesce(length(outcome), 0) <= 2000)
) partition by list (slot);

do $$
begin
  for slot in 0..15 loop
    execute format('create table %I partition of webhook_event for values in (%s)',
                   'webhook_event_slot_' || lpad(slot::text, 2, '0'), slot);
  end loop;
end
$$;

create index webhook_event_by_agency_idx on webhook_event (agency_id, id desc);
-- What did not go through is little, and is what people look for.
create index webhook_event_open_idx on webhook_event (state, agency_id, id desc) where state <> 'processed';
call operator_table('webhook_event', 'select');

-- Rows are reached through webhook_event and its policies alone: on the partitions themselves stands a wall without a
-- door, and the worker may do nothing to them but empty them.
do $$
declare
  part text;
begin
  for slot in 0..15 loop
    part := 'webhook_event_slot_' || lpad(slot::text, 2, '0');
    execute format('alter table %I enable row level security', part);
    execute format('alter table %I force row level security', part);
    execute format('grant truncate on %I to %I', part, service_role('worker'));
  end loop;
end
$$;
