-- Reconciliation (BIL-40): runs, what they met, and the differences they found.

-- A run. It goes from page to page; `position` is where the next page starts, so that a killed run loses one page of work.
create table billing_reconciliation (
  id              uuid        not null,
  -- null: all agencies, which is the daily run
  agency_id       uuid,
  -- no run is about one client
  tenant_id       uuid,
  provider        text        not null,
  dry_run         boolean     not null,
  state           text        not null default 'running',
  position        jsonb       not null,
  objects_count   bigint      not null default 0,
  in_flight_count bigint      not null default 0,
  -- objects in the same Stripe account that are nobody's here
  foreign_count   bigint      not null default 0,
  found_count     bigint      not null default 0,
  repaired_count  bigint      not null default 0,
  open_count      bigint      not null default 0,
  error           text,
  requested_by    text        not null,
  ended_at        timestamptz,
  created_at      timestamptz not null default now(),
  updated_at      timestamptz not null default now(),
  expires_at      timestamptz not null default now() + interval '400 days',
  constraint billing_reconciliation_pkey primary key (id),
  constraint billing_reconciliation_tenant_check check (tenant_id is null),
  constraint billing_reconciliation_provider_check check (provider in ('stripe')),
  constraint billing_reconciliation_state_check check (state in ('running', 'completed', 'failed')),
  constraint billing_reconciliation_ended_check check ((state = 'running') = (ended_at is null)),
  constraint billing_reconciliation_error_check check ((state = 'failed') = (error is not null))
);
-- One at a time an agency, and one at a time of all agencies.
create unique index billing_reconciliation_one_running_key on billing_reconciliation (agency_id) nulls not distinct
  where state = 'running';
create index billing_reconciliation_by_agency_idx on billing_reconciliation (agency_id, id desc);
create index billing_reconciliation_expires_idx on billing_reconciliation (expires_at) where state <> 'running';
call operator_table('billing_reconciliation', 'insert, select, update');
call expires('billing_reconciliation', 'state <> ''running''');

-- What a run met at Stripe, so that it can tell what of ours it did not meet. Gone when the run has ended.
create table reconciliation_sighting (
  reconciliation_id uuid        not null,
  stripe_id         text        not null,
  noun              text        not null,
  agency_id         uuid        not null,
  tenant_id         uuid        not null,
  created_at        timestamptz not null default now(),
  expires_at        timestamptz not null default now() + interval '7 days',
  constraint reconciliation_sighting_pkey primary key (reconciliation_id, stripe_id),
  constraint reconciliation_sighting_noun_check check (noun in ('subscription', 'customer'))
);
create index reconciliation_sighting_by_client_idx on reconciliation_sighting (reconciliation_id, tenant_id)
  where noun = 'subscription';
create index reconciliation_sighting_expires_idx on reconciliation_sighting (expires_at);
call infrastructure_table('reconciliation_sighting');
call expires('reconciliation_sighting');

create table billing_discrepancy (
  id                     uuid        not null,
  -- null: nobody's here; no agency sees it
  agency_id              uuid,
  tenant_id              uuid,
  -- the run that found it, and the last that met it
  reconciliation_id      uuid        not null,
  last_reconciliation_id uuid        not null,
  kind                   text        not null,
  -- Stripe's id of what differs, else ours: what makes it the same difference when it is found again
  subject                text        not null,
  stripe_id              text,
  subscription_id        uuid,
  --  open ──(repair, or a person and the next run)──▶ repaired | resolved        previewed: by a dry run
  state                  text        not null,
  -- a repair was begun: if it is gone when it is next looked at, it was that
  attempted              boolean     not null default false,
  before                 jsonb       not null,
  after                  jsonb       not null,
  cause                  text        not null,
  action                 text        not null,
  resolved_at            timestamptz,
  created_at             timestamptz not null default now(),
  updated_at             timestamptz not null default now(),
  expires_at             timestamptz not null default now() + interval '400 days',
  constraint billing_discrepancy_pkey primary key (id),
  constraint billing_discrepancy_kind_check check (kind in
    ('subscription_unknown', 'subscription_orphaned', 'subscription_ended_here', 'subscription_gone',
     'subscription_differs', 'subscription_price_differs', 'subscription_duplicated', 'customer_unknown',
     'customer_gone', 'invoice_missing', 'invoice_amount_differs', 'payment_kept', 'foreign')),
  constraint billing_discrepancy_state_check check (state in ('open', 'repaired', 'resolved', 'previewed')),
  constraint billing_discrepancy_resolved_check check ((state in ('repaired', 'resolved')) = (resolved_at is not null)),
  constraint billing_discrepancy_tenant_check check (tenant_id is null or agency_id is not null)
);
-- Found again by the next run it is the same row.
create unique index billing_discrepancy_open_key on billing_discrepancy (subject, kind) where state = 'open';
create unique index billing_discrepancy_previewed_key on billing_discrepancy (reconciliation_id, subject, kind)
  where state = 'previewed';
create index billing_discrepancy_last_run_idx on billing_discrepancy (last_reconciliation_id, id desc);
create index billing_discrepancy_by_agency_idx on billing_discrepancy (agency_id, id desc);
create index billing_discrepancy_expires_idx on billing_discrepancy (expires_at) where state <> 'open';
call operator_table('billing_discrepancy', 'select');
call expires('billing_discrepancy', 'state <> ''open''');
