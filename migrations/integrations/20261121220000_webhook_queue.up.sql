-- The inbox is its own queue: a webhook waits for its delivery by a time in its row, and the job beside each webhook goes.
-- The release before this one enqueues jobs still; those are worked, and rows that it stores have no due time.

alter table webhook_event
  -- When it is handed on next; null when it is not, or when a job does it.
  add column due_at timestamptz,
  -- Behind all others: it was replayed with a whole range.
  add column bulk   boolean not null default false,
  -- Tries that ended without success since it was queued last.
  add column tries  integer not null default 0;

-- Not concurrently, which PostgreSQL cannot for a partitioned table; there is nothing in it yet.
-- mainstay:allow nothing is due when it is made, so that each week is only read through
create index webhook_event_due_idx on webhook_event (bulk, due_at, id) where due_at is not null;

-- Whose a webhook is, is known only when it was handed on, and most went through by then: neither index costs the intake
-- anything.
drop index webhook_event_by_agency_idx;
drop index webhook_event_open_idx;
-- mainstay:allow not concurrently: see above; writes wait, and senders repeat what was not taken
create index webhook_event_by_agency_idx on webhook_event (agency_id, id desc) where agency_id is not null;
-- mainstay:allow what was not received as it should be is little
create index webhook_event_open_idx on webhook_event (state, agency_id, id desc) where state in ('failed', 'dead');
-- mainstay:allow nothing is due when it is made
create index webhook_event_waiting_idx on webhook_event (agency_id) where due_at is not null and agency_id is not null;

-- PostgreSQL reads the text of every check of a table anew for each statement that writes it: eight of them were a third
-- of what a call of the intake paid however few webhooks it brought. One function says the same, and is read once a
-- connection. It calls nothing that is not PostgreSQL's own.
create function webhook_event_is_sound(
  state text, attempts integer, outcome text, error text, processed_at timestamptz, due_at timestamptz, tries integer,
  replays integer, replayed_at timestamptz, agency_id uuid, tenant_id uuid, type text, content_type text, body bytea
) returns boolean
  language plpgsql immutable parallel safe
as $$
begin
  return
    case state
      when 'received' then processed_at is null
      when 'processed' then processed_at is not null and error is null
      when 'failed' then processed_at is null and error is not null
      when 'dead' then processed_at is null and error is not null
      else false
    end
    and (due_at is null or state in ('received', 'failed'))
    and attempts >= 0 and tries >= 0
    and replays >= 0 and (replays = 0) = (replayed_at is null)
    and (tenant_id is null or agency_id is not null)
    and length(type) between 1 and 255 and length(content_type) <= 255 and octet_length(body) <= 2097152
    and coalesce(length(error), 0) <= 2000 and coalesce(length(outcome), 0) <= 2000;
end
$$;

alter table webhook_event
  add constraint webhook_event_sound_check check (
    webhook_event_is_sound(state, attempts, outcome, error, processed_at, due_at, tries, replays, replayed_at, agency_id,
                           tenant_id, type, content_type, body)),
  drop constraint webhook_event_state_check,
  drop constraint webhook_event_processed_check,
  drop constraint webhook_event_failure_has_reason_check,
  drop constraint webhook_event_tenant_needs_agency_check,
  drop constraint webhook_event_attempts_check,
  drop constraint webhook_event_length_check,
  drop constraint webhook_event_replays_check;

-- A body as large as most is compressed as it is stored: a fifth of what storing it costs, with PostgreSQL's own method.
-- Where the server was built without the better one, it stays as it is.
do $$
begin
  for slot in 0..15 loop
    execute format('alter table %I alter column body set compression lz4', 'webhook_event_slot_' || lpad(slot::text, 2, '0'));
  end loop;
  alter table webhook_event alter column body set compression lz4;
exception
  when feature_not_supported or invalid_parameter_value then
    null;
end
$$;

-- Who has a webhook in hand. A narrow row of its own, as with jobs: neither a claim nor a heartbeat writes the webhook.
-- No foreign key: a week is emptied by TRUNCATE, which a reference would forbid. What leases nothing is taken back when
-- it runs out.
create table webhook_lease (
  webhook_event_id uuid        not null,
  fence            bigint      not null,
  runner           uuid        not null,
  claimed_at       timestamptz not null default clock_timestamp(),
  -- in no index, so a heartbeat is a HOT update
  leased_until     timestamptz not null,
  constraint webhook_lease_pkey primary key (webhook_event_id)
) with (fillfactor = 50);
call infrastructure_table('webhook_lease');
