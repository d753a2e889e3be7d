-- Replays (INT-05): how often a webhook was handed on again because a person asked, and the ranges that people asked for.

alter table webhook_event
  add column replays integer not null default 0,
  add column replayed_at timestamptz,
  add constraint webhook_event_replays_check check (replays >= 0 and (replays = 0) = (replayed_at is null));

-- A range that is being replayed, page by page. Where it stands is written in the transaction of each page, so that
-- whoever takes it up after a crash goes on behind the last page that was done.
create table webhook_replay (
  id            uuid        not null,
  agency_id     uuid        not null,
  -- always the whole agency's; the column is what the class demands
  tenant_id     uuid,
  state         text        not null default 'running',
  provider      text,
  type          text,
  event_states  text[]      not null,
  received_from timestamptz,
  received_to   timestamptz,
  -- ids are walked upwards: behind this one, up to the newest there was when it was asked for
  walked_to     uuid        not null,
  last_id       uuid        not null,
  matched       bigint      not null,
  replayed      bigint      not null default 0,
  passed_over   bigint      not null default 0,
  requested_by  text        not null,
  created_at    timestamptz not null default now(),
  updated_at    timestamptz not null default now(),
  ended_at      timestamptz,
  expires_at    timestamptz not null default now() + interval '90 days',
  constraint webhook_replay_pkey primary key (id),
  constraint webhook_replay_state_check check (state in ('running', 'completed')),
  constraint webhook_replay_ended_check check ((state = 'running') = (ended_at is null)),
  constraint webhook_replay_tenant_check check (tenant_id is null),
  constraint webhook_replay_counts_check check (matched >= 0 and replayed >= 0 and passed_over >= 0),
  constraint webhook_replay_event_states_check
    check (cardinality(event_states) between 1 and 4 and event_states <@ array['received', 'processed', 'failed', 'dead'])
);
-- One at a time: a second one over the same webhooks would only be in the first one's way.
create unique index webhook_replay_one_running_key on webhook_replay (agency_id) where state = 'running';
create index webhook_replay_by_agency_idx on webhook_replay (agency_id, id desc);
create index webhook_replay_expires_idx on webhook_replay (expires_at);
call operator_table('webhook_replay', 'insert, select');
call expires('webhook_replay', 'state = ''completed''');
