-- What moved: payments, what was given back, what was disputed. Mirrors of Stripe's objects; Stripe stays their owner.
-- Sum of amount_captured_minor less sum of amount_refunded_minor is what the database says was taken.

-- How often a reading of the object was applied: a reading begun before another one ended is stale, and is made again.
alter table stripe_object add column revision bigint not null default 0;

alter table billing_account
  -- rises with every event of ours about the account as a whole
  add column sequence                  bigint  not null default 0,
  -- what Stripe's customer says; who it is stays identity's
  add column delinquent                boolean not null default false,
  add column default_payment_method_id text;

-- One row a payment intent, or a charge that has none.
create table payment (
  agency_id                uuid        not null,
  tenant_id                uuid        not null,
  id                       uuid        not null,
  -- the intent, or the charge where there is none: what the mirror is found by
  stripe_id                text        not null,
  -- the last charge made for it
  stripe_charge_id         text,
  -- Stripe's, since either may be heard of first
  stripe_invoice_id        text,
  status                   text        not null,
  currency                 text        not null,
  amount_minor             bigint      not null,
  amount_captured_minor    bigint      not null,
  amount_refunded_minor    bigint      not null,
  disputed                 boolean     not null,
  failure_code             text,
  failure_message          text,
  charged_at               timestamptz,
  sequence                 bigint      not null,
  created_at               timestamptz not null default now(),
  updated_at               timestamptz not null default now(),
  constraint payment_pkey primary key (tenant_id, id),
  constraint payment_account_fkey foreign key (tenant_id) references billing_account (tenant_id) on delete restrict,
  constraint payment_stripe_key unique (stripe_id),
  constraint payment_status_check check (status in ('requires_payment_method', 'requires_confirmation',
    'requires_action', 'requires_capture', 'processing', 'succeeded', 'failed', 'canceled')),
  constraint payment_currency_check check (currency ~ '^[a-z]{3}$'),
  constraint payment_amount_check check (
    amount_minor >= 0 and amount_captured_minor >= 0 and amount_refunded_minor between 0 and amount_captured_minor)
);
create index payment_by_invoice_idx on payment (tenant_id, stripe_invoice_id);
create index payment_by_agency_idx on payment (agency_id, id desc);
call client_table('payment');

create table refund (
  agency_id        uuid        not null,
  tenant_id        uuid        not null,
  id               uuid        not null,
  payment_id       uuid        not null,
  stripe_refund_id text        not null,
  status           text        not null,
  currency         text        not null,
  amount_minor     bigint      not null,
  reason           text,
  failure_reason   text,
  sequence         bigint      not null,
  created_at       timestamptz not null default now(),
  updated_at       timestamptz not null default now(),
  constraint refund_pkey primary key (tenant_id, id),
  constraint refund_payment_fkey foreign key (tenant_id, payment_id) references payment (tenant_id, id) on delete restrict,
  constraint refund_stripe_key unique (stripe_refund_id),
  constraint refund_status_check check (status in ('pending', 'requires_action', 'succeeded', 'failed', 'canceled')),
  constraint refund_currency_check check (currency ~ '^[a-z]{3}$'),
  constraint refund_amount_check check (amount_minor >= 0)
);
create index refund_payment_idx on refund (tenant_id, payment_id);
create index refund_by_agency_idx on refund (agency_id, id desc);
call client_table('refund');

create table dispute (
  agency_id                uuid        not null,
  tenant_id                uuid        not null,
  id                       uuid        not null,
  payment_id               uuid        not null,
  stripe_dispute_id        text        not null,
  status                   text        not null,
  currency                 text        not null,
  amount_minor             bigint      not null,
  reason                   text        not null,
  evidence_due_at          timestamptz,
  -- both only ever become true
  funds_withdrawn          boolean     not null,
  funds_reinstated         boolean     not null,
  closed_at                timestamptz,
  sequence                 bigint      not null,
  created_at               timestamptz not null default now(),
  updated_at               timestamptz not null default now(),
  constraint dispute_pkey primary key (tenant_id, id),
  constraint dispute_payment_fkey foreign key (tenant_id, payment_id) references payment (tenant_id, id) on delete restrict,
  constraint dispute_stripe_key unique (stripe_dispute_id),
  constraint dispute_status_check check (status in ('warning_needs_response', 'warning_under_review', 'warning_closed',
    'needs_response', 'under_review', 'prevented', 'won', 'lost')),
  constraint dispute_currency_check check (currency ~ '^[a-z]{3}$'),
  constraint dispute_closed_check check (
    (status in ('warning_closed', 'prevented', 'won', 'lost')) = (closed_at is not null))
);
create index dispute_payment_idx on dispute (tenant_id, payment_id);
create index dispute_by_agency_idx on dispute (agency_id, id desc);
call client_table('dispute');

-- The payment methods of a client, as far as a person needs to tell them apart. The card stays at Stripe.
create table payment_method (
  agency_id                uuid        not null,
  tenant_id                uuid        not null,
  stripe_payment_method_id text        not null,
  type                     text        not null,
  brand                    text,
  last4                    text,
  exp_month                integer,
  exp_year                 integer,
  fingerprint              text,
  -- detached ones stay: a trial is judged by the fingerprints a client ever had
  attached                 boolean     not null,
  created_at               timestamptz not null default now(),
  updated_at               timestamptz not null default now(),
  constraint payment_method_pkey primary key (tenant_id, stripe_payment_method_id),
  constraint payment_method_account_fkey foreign key (tenant_id) references billing_account (tenant_id) on delete restrict,
  constraint payment_method_last4_check check (last4 is null or last4 ~ '^[0-9]{4}$')
);
create index payment_method_by_agency_idx on payment_method (agency_id, tenant_id);
call client_table('payment_method');
