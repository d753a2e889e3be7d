-- What somebody should look at: each thing once, for as long as it lasts; who hears of it; and what was told to whom.

create table alert (
  agency_id       uuid        not null,
  id              uuid        not null,
  kind            text        not null,
  severity        text        not null,
  -- about which thing
  subject         text        not null,
  -- none: about the agency or the platform
  client_id       uuid,
  summary         text        not null,
  state           text        not null default 'open',
  occurrences     bigint      not null default 1,
  first_seen_at   timestamptz not null,
  last_seen_at    timestamptz not null,
  acknowledged_by text,
  acknowledged_at timestamptz,
  resolved_by     text,
  resolved_at     timestamptz,
  -- how bad it was when everybody who is to hear of it had been told last
  told_severity   text,
  -- the trace of what it was raised for
  traceparent     text,
  revision        bigint      not null default 1,
  created_at      timestamptz not null default now(),
  updated_at      timestamptz not null default now(),
  constraint alert_pkey primary key (agency_id, id),
  constraint alert_kind_check check (kind in ('saga_parked', 'dispute_opened', 'payment_failed', 'webhook_dead', 'job_dead',
    'provider_refuses_us', 'message_ambiguous', 'escalation_unanswered', 'model_unavailable', 'automation_fails', 'service_down',
    'service_slow', 'calls_failing', 'database', 'queue_late', 'queue_dead', 'provider_down', 'discrepancies', 'health_unknown')),
  constraint alert_severity_check check (severity in ('info', 'warning', 'critical')
    and told_severity in ('info', 'warning', 'critical')),
  constraint alert_state_check check (
    case state
      when 'open' then acknowledged_at is null and resolved_at is null
      when 'acknowledged' then acknowledged_at is not null and resolved_at is null
      when 'resolved' then resolved_at is not null
      else false
    end),
  constraint alert_who_check check ((acknowledged_by is null) = (acknowledged_at is null)
    and (resolved_by is null) = (resolved_at is null)),
  constraint alert_length_check check (length(subject) between 1 and 200 and length(summary) between 1 and 2000),
  constraint alert_counts_check check (occurrences > 0 and last_seen_at >= first_seen_at)
);
-- One alert for one thing until it is resolved.
create unique index alert_open_key on alert (agency_id, kind, subject) where state in ('open', 'acknowledged');
create index alert_client_idx on alert (agency_id, client_id, id desc);
call agency_table('alert');
-- Whoever serves some clients sees what is about these.
create policy alert_visible on alert as restrictive for all
  using (client_id = current_tenant() or sees_all_clients() or client_id = any (visible_clients()));

-- What stands and what is over of the things that end by an opposite fact, by the times of the facts: whichever comes in first,
-- the later one holds.
create table alert_item (
  agency_id  uuid        not null,
  tenant_id  uuid,
  kind       text        not null,
  subject    text        not null,
  item       text        not null,
  standing   boolean     not null,
  said_at    timestamptz not null,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  expires_at timestamptz not null,
  constraint alert_item_pkey primary key (agency_id, kind, subject, item)
);
create index alert_item_expires_idx on alert_item (expires_at);
call operator_table('alert_item', '');
call expires('alert_item');

create table alert_route (
  agency_id      uuid        not null,
  id             uuid        not null,
  name           text        not null,
  -- empty: all
  kinds          text[]      not null,
  least_severity text        not null,
  client_id      uuid,
  channel        text        not null,
  member_ids     uuid[]      not null,
  address        text,
  revision       bigint      not null default 1,
  created_at     timestamptz not null default now(),
  updated_at     timestamptz not null default now(),
  constraint alert_route_pkey primary key (agency_id, id),
  constraint alert_route_severity_check check (least_severity in ('info', 'warning', 'critical')),
  constraint alert_route_channel_check check (channel in ('email', 'sms')),
  constraint alert_route_to_check check ((cardinality(member_ids) > 0) = (address is null)),
  constraint alert_route_length_check check (length(name) between 1 and 100 and cardinality(kinds) <= 50
    and cardinality(member_ids) <= 50)
);
call agency_table('alert_route');

-- What is said of an alert to whom: each thing once at an address.
create table alert_notice (
  agency_id  uuid        not null,
  id         uuid        not null,
  alert_id   uuid        not null,
  -- none: to an owner, since no route took it
  route_id   uuid,
  kind       text        not null,
  -- how bad the alert was then
  severity   text        not null,
  channel    text        not null,
  address    text        not null,
  state      text        not null default 'pending',
  message_id uuid,
  reason     text,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  constraint alert_notice_pkey primary key (agency_id, id),
  constraint alert_notice_once_key unique (agency_id, alert_id, kind, severity, channel, address),
  constraint alert_notice_alert_fkey foreign key (agency_id, alert_id) references alert (agency_id, id),
  constraint alert_notice_kind_check check (kind in ('opened', 'resolved')),
  constraint alert_notice_severity_check check (severity in ('info', 'warning', 'critical')),
  constraint alert_notice_channel_check check (channel in ('email', 'sms')),
  constraint alert_notice_state_check check (
    case state when 'pending' then message_id is null when 'telling' then message_id is null
               when 'told' then message_id is not null
               when 'refused' then reason is not null else false end)
);
call agency_table('alert_notice');
