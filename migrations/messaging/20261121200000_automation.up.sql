-- Automations as data, their runs and sweeps, appointments, and bursts of texts. One occasion sets one automation off once, and
-- one step of a run makes one message: the keys say so.

create table automation (
  agency_id      uuid        not null,
  tenant_id      uuid        not null,
  id             uuid        not null,
  name           text        not null,
  trigger        text        not null,
  state          text        not null default 'paused',
  -- why it has paused itself
  paused_because text,
  version        int         not null default 1,
  revision       bigint      not null default 1,
  created_at     timestamptz not null default now(),
  updated_at     timestamptz not null default now(),
  constraint automation_pkey primary key (tenant_id, id),
  constraint automation_name_check check (length(name) between 1 and 100),
  constraint automation_trigger_check check (trigger in
    ('call_missed', 'message_received', 'form_submitted', 'appointment_booked', 'lead_inactive')),
  constraint automation_state_check check (state in ('active', 'paused')),
  constraint automation_paused_check check (state = 'paused' or paused_because is null)
);
create index automation_active_idx on automation (tenant_id, trigger) where state = 'active';
call client_table('automation');

-- What an automation does, in each of its versions. A run goes on by the one that it began with.
create table automation_version (
  agency_id     uuid        not null,
  tenant_id     uuid        not null,
  automation_id uuid        not null,
  version       int         not null,
  definition    jsonb       not null,
  made_by       text        not null,
  created_at    timestamptz not null default now(),
  constraint automation_version_pkey primary key (tenant_id, automation_id, version),
  constraint automation_version_automation_fkey foreign key (tenant_id, automation_id) references automation (tenant_id, id),
  constraint automation_version_check check (version >= 1)
);
call client_table('automation_version');
call append_only('automation_version');

-- One look at all of a client's leads: one a day, resumed where it was left.
create table automation_sweep (
  agency_id     uuid        not null,
  tenant_id     uuid        not null,
  id            uuid        not null,
  automation_id uuid        not null,
  version       int         not null,
  period        text        not null,
  state         text        not null default 'running',
  -- the lead that was looked at last
  reached       uuid,
  looked_at     bigint      not null default 0,
  taken_in      bigint      not null default 0,
  passed_over   bigint      not null default 0,
  reason        text,
  ended_at      timestamptz,
  created_at    timestamptz not null default now(),
  updated_at    timestamptz not null default now(),
  constraint automation_sweep_pkey primary key (tenant_id, id),
  constraint automation_sweep_period_key unique (tenant_id, automation_id, period),
  constraint automation_sweep_version_fkey foreign key (tenant_id, automation_id, version)
    references automation_version (tenant_id, automation_id, version),
  constraint automation_sweep_state_check check (state in ('running', 'done', 'stopped')),
  constraint automation_sweep_ended_check check ((state = 'running') = (ended_at is null)),
  constraint automation_sweep_reason_check check ((state = 'stopped') = (reason is not null))
);
create index automation_sweep_version_fkey_idx on automation_sweep (tenant_id, automation_id, version);
call client_table('automation_sweep');

-- What an automation does for one lead at one occasion.
create table automation_run (
  agency_id       uuid        not null,
  tenant_id       uuid        not null,
  id              uuid        not null,
  automation_id   uuid        not null,
  version         int         not null,
  -- a call, a form, a burst of texts, an appointment's time, a sweep: one of an automation's runs each
  occasion        text        not null,
  lead_id         uuid        not null,
  -- where it was said, and on which number of ours
  conversation_id uuid,
  sender          text,
  sweep_id        uuid,
  -- what texts tell of the occasion
  facts           jsonb       not null default '{}',
  -- how many automations stand between it and what a person did
  depth           int         not null default 0,
  state           text        not null default 'running',
  reason          text,
  step            int         not null default 0,
  due_at          timestamptz,
  ended_at        timestamptz,
  created_at      timestamptz not null default now(),
  updated_at      timestamptz not null default now(),
  constraint automation_run_pkey primary key (tenant_id, id),
  constraint automation_run_occasion_key unique (tenant_id, automation_id, occasion),
  constraint automation_run_version_fkey foreign key (tenant_id, automation_id, version)
    references automation_version (tenant_id, automation_id, version),
  constraint automation_run_lead_fkey foreign key (tenant_id, lead_id) references lead (tenant_id, id),
  constraint automation_run_conversation_fkey foreign key (tenant_id, conversation_id) references conversation (tenant_id, id),
  constraint automation_run_sweep_fkey foreign key (tenant_id, sweep_id) references automation_sweep (tenant_id, id),
  constraint automation_run_state_check check (state in ('running', 'answering', 'done', 'stopped', 'failed')),
  constraint automation_run_due_check check ((state = 'running') = (due_at is not null)),
  constraint automation_run_ended_check check ((state in ('running', 'answering')) = (ended_at is null)),
  constraint automation_run_reason_check check ((state in ('stopped', 'failed')) = (reason is not null)),
  -- Automations do not answer automations.
  constraint automation_run_depth_check check (depth between 0 and 2)
);
create index automation_run_version_fkey_idx on automation_run (tenant_id, automation_id, version);
create index automation_run_lead_fkey_idx on automation_run (tenant_id, lead_id, automation_id, created_at);
create index automation_run_conversation_fkey_idx on automation_run (tenant_id, conversation_id);
create index automation_run_sweep_fkey_idx on automation_run (tenant_id, sweep_id);
create index automation_run_due_idx on automation_run (tenant_id, due_at) where state = 'running';
call client_table('automation_run');

-- The one message of a run's step.
create table automation_message (
  agency_id  uuid        not null,
  tenant_id  uuid        not null,
  run_id     uuid        not null,
  step       int         not null,
  message_id uuid        not null,
  created_at timestamptz not null default now(),
  constraint automation_message_pkey primary key (tenant_id, run_id, step),
  constraint automation_message_message_key unique (tenant_id, message_id),
  constraint automation_message_run_fkey foreign key (tenant_id, run_id) references automation_run (tenant_id, id),
  constraint automation_message_message_fkey foreign key (tenant_id, message_id) references message (tenant_id, id)
);
call client_table('automation_message');
call append_only('automation_message');

create table appointment (
  agency_id  uuid        not null,
  tenant_id  uuid        not null,
  id         uuid        not null,
  lead_id    uuid        not null,
  title      text        not null,
  location   text,
  starts_at  timestamptz not null,
  time_zone  text        not null,
  state      text        not null default 'booked',
  revision   bigint      not null default 1,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  constraint appointment_pkey primary key (tenant_id, id),
  constraint appointment_lead_fkey foreign key (tenant_id, lead_id) references lead (tenant_id, id),
  constraint appointment_title_check check (length(title) between 1 and 200),
  constraint appointment_state_check check (state in ('booked', 'canceled', 'kept', 'no_show'))
);
create index appointment_lead_fkey_idx on appointment (tenant_id, lead_id, id desc);
create index appointment_state_idx on appointment (tenant_id, state, id desc);
call client_table('appointment');

-- Texts of one conversation that come one after the other are handed on as one, when nothing more has come for a while.
create table inbound_burst (
  agency_id       uuid        not null,
  tenant_id       uuid        not null,
  conversation_id uuid        not null,
  id              uuid        not null,
  -- the last of its texts
  last_message_id uuid        not null,
  due_at          timestamptz not null,
  -- it does not wait longer than this, however many more come
  latest_at       timestamptz not null,
  created_at      timestamptz not null default now(),
  updated_at      timestamptz not null default now(),
  constraint inbound_burst_pkey primary key (tenant_id, conversation_id),
  constraint inbound_burst_conversation_fkey foreign key (tenant_id, conversation_id) references conversation (tenant_id, id)
);
call client_table('inbound_burst');

-- What a model was asked for, and what it cost: what a client may have of it in a day is counted here.
create table model_answer (
  agency_id   uuid        not null,
  tenant_id   uuid        not null,
  run_id      uuid        not null,
  step        int         not null,
  model       text        not null,
  tokens_in   bigint      not null,
  tokens_out  bigint      not null,
  -- in millionths of a dollar, at the prices that were set
  cost_micros bigint      not null,
  created_at  timestamptz not null default now(),
  constraint model_answer_pkey primary key (tenant_id, run_id, step),
  constraint model_answer_run_fkey foreign key (tenant_id, run_id) references automation_run (tenant_id, id)
);
create index model_answer_day_idx on model_answer (tenant_id, created_at);
call client_table('model_answer');
call append_only('model_answer');

-- Who has taken a conversation over: while somebody has, no automation answers in it.
alter table conversation
  add column taken_over_by text,
  add column taken_over_at timestamptz;
