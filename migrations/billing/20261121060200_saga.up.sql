-- The saga log (BIL-20). A row is written only by whoever holds its lease, with the fence of that lease.

create table saga (
  id           uuid        not null,
  agency_id    uuid        not null,
  tenant_id    uuid        not null,
  definition   text        not null,
  version      integer     not null,
  --            running -> completed
  --               |  \
  --               |   (refused) -> compensating -> compensated
  --               |                     |
  --               +------ parked -------+        (budget used up; a person decides)
  state        text        not null default 'running',
  -- what the coordinator is at: a step, and whether it does or undoes it; kept while parked
  direction    text        not null default 'do',
  position     integer     not null default 0,
  step         text        not null,
  attempt      integer     not null default 0,
  input        jsonb       not null,
  -- the definitive no that set the undoing off: what the caller is told
  refusal      jsonb,
  error        text,
  next_run_at  timestamptz not null default now(),
  lease_owner  uuid,
  leased_until timestamptz,
  -- rises with every claim; every write names it
  fence        bigint      not null default 0,
  traceparent  text,
  ended_at     timestamptz,
  created_at   timestamptz not null default now(),
  updated_at   timestamptz not null default now(),
  expires_at   timestamptz not null default now() + interval '400 days',
  constraint saga_pkey primary key (id),
  constraint saga_state_check check (state in
    ('running', 'waiting', 'compensating', 'parked', 'completed', 'compensated')),
  constraint saga_direction_check check (direction in ('do', 'undo')),
  constraint saga_ended_check check ((state in ('completed', 'compensated')) = (ended_at is not null)),
  constraint saga_refusal_check check (direction = 'do' or refusal is not null),
  constraint saga_lease_check check ((lease_owner is null) = (leased_until is null))
);
create index saga_due_idx on saga (next_run_at) where state in ('running', 'waiting', 'compensating');
create index saga_by_agency_idx on saga (agency_id, id desc);
create index saga_by_agency_state_idx on saga (agency_id, state, id desc);
create index saga_expires_idx on saga (expires_at) where state in ('completed', 'compensated');
call operator_table('saga', 'insert, select');
call expires('saga', 'state in (''completed'', ''compensated'')');

create table saga_step (
  saga_id    uuid        not null,
  position   integer     not null,
  direction  text        not null,
  name       text        not null,
  agency_id  uuid        not null,
  tenant_id  uuid        not null,
  -- intended -> done | refused, or unknown -> (tried again) -> done | refused
  outcome    text        not null default 'intended',
  attempt    integer     not null default 0,
  output     jsonb,
  error      text,
  created_at timestamptz not null default now(),
  ended_at   timestamptz,
  constraint saga_step_pkey primary key (saga_id, position, direction),
  constraint saga_step_saga_fkey foreign key (saga_id) references saga (id) on delete cascade,
  constraint saga_step_direction_check check (direction in ('do', 'undo')),
  constraint saga_step_outcome_check check (outcome in ('intended', 'done', 'refused', 'unknown')),
  constraint saga_step_ended_check check ((outcome in ('done', 'refused')) = (ended_at is not null))
);
call operator_table('saga_step', 'insert, select');

-- Which of Stripe's events had their effect. Kept beyond the 30 days that Stripe can send one again.
create table stripe_event_inbox (
  stripe_event_id text        not null,
  type            text        not null,
  outcome         text        not null,
  created_at      timestamptz not null default now(),
  expires_at      timestamptz not null default now() + interval '60 days',
  constraint stripe_event_inbox_pkey primary key (stripe_event_id),
  constraint stripe_event_inbox_outcome_check check (outcome in ('applied', 'ignored'))
);
create index stripe_event_inbox_expires_idx on stripe_event_inbox (expires_at);
call infrastructure_table('stripe_event_inbox');
call expires('stripe_event_inbox');
