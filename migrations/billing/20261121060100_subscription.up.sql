-- A client's standing with billing, its subscriptions and its invoices.

-- One row a client. Locked first by whoever changes anything of the client's billing, so that changes of one client
-- never deadlock and never cross.
create table billing_account (
  agency_id           uuid        not null,
  tenant_id           uuid        not null,
  -- null until the first subscription needs it
  stripe_customer_id  text,
  -- the version of the entitlements last decided here; one count for all subscriptions a client ever has, so that a
  -- late write about an old subscription cannot win over the new one
  entitlement_version bigint      not null default 0,
  created_at          timestamptz not null default now(),
  updated_at          timestamptz not null default now(),
  constraint billing_account_pkey primary key (tenant_id),
  constraint billing_account_entitlement_version_check check (entitlement_version >= 0)
);
create unique index billing_account_stripe_customer_key on billing_account (stripe_customer_id)
  where stripe_customer_id is not null;
create index billing_account_by_agency_idx on billing_account (agency_id, tenant_id);
call client_table('billing_account');

create table subscription (
  agency_id               uuid        not null,
  tenant_id               uuid        not null,
  id                      uuid        not null,
  plan_id                 uuid        not null,
  plan_version            integer     not null,
  currency                text        not null,
  "interval"              text        not null,
  amount_minor            bigint      not null,
  status                  text        not null default 'incomplete',
  failure_reason          text,
  saga_id                 uuid        not null,
  stripe_subscription_id  text,
  current_period_start_at timestamptz,
  current_period_end_at   timestamptz,
  trial_end_at            timestamptz,
  paid_through_at         timestamptz,
  canceled_at             timestamptz,
  -- the entitlements version this subscription last asked for
  entitlement_version     bigint      not null default 0,
  -- rises with every event of ours about it
  sequence                bigint      not null default 0,
  -- rises with every reading of Stripe's object that was applied: a reading begun before another one ended is stale
  provider_revision       bigint      not null default 0,
  created_at              timestamptz not null default now(),
  updated_at              timestamptz not null default now(),
  constraint subscription_pkey primary key (tenant_id, id),
  constraint subscription_account_fkey foreign key (tenant_id) references billing_account (tenant_id) on delete restrict,
  constraint subscription_plan_version_fkey foreign key (agency_id, plan_id, plan_version)
    references plan_version (agency_id, plan_id, version) on delete restrict,
  constraint subscription_price_fkey foreign key (agency_id, plan_id, plan_version, currency, "interval")
    references plan_price (agency_id, plan_id, version, currency, "interval") on delete restrict,
  constraint subscription_status_check check (status in
    ('incomplete', 'trialing', 'active', 'past_due', 'unpaid', 'paused', 'canceled', 'incomplete_expired', 'failed')),
  constraint subscription_failure_check check ((status = 'failed') = (failure_reason is not null)),
  constraint subscription_amount_check check (amount_minor >= 0),
  constraint subscription_stripe_check check (
    stripe_subscription_id is not null or status in ('incomplete', 'failed'))
);
-- A client has one place for a live subscription; whoever comes second is told.
create unique index subscription_one_live_key on subscription (tenant_id)
  where status in ('incomplete', 'trialing', 'active', 'past_due', 'unpaid', 'paused');
create unique index subscription_stripe_key on subscription (stripe_subscription_id)
  where stripe_subscription_id is not null;
create index subscription_plan_idx on subscription (agency_id, plan_id, plan_version, currency, "interval");
create index subscription_by_agency_idx on subscription (agency_id, id desc);
call client_table('subscription');

create table invoice (
  agency_id          uuid        not null,
  tenant_id          uuid        not null,
  id                 uuid        not null,
  subscription_id    uuid,
  stripe_invoice_id  text        not null,
  status             text        not null,
  currency           text        not null,
  amount_due_minor   bigint      not null,
  amount_paid_minor  bigint      not null,
  period_start_at    timestamptz,
  period_end_at      timestamptz,
  paid_at            timestamptz,
  sequence           bigint      not null default 0,
  created_at         timestamptz not null default now(),
  updated_at         timestamptz not null default now(),
  constraint invoice_pkey primary key (tenant_id, id),
  constraint invoice_account_fkey foreign key (tenant_id) references billing_account (tenant_id) on delete restrict,
  constraint invoice_subscription_fkey foreign key (tenant_id, subscription_id)
    references subscription (tenant_id, id) on delete restrict,
  constraint invoice_status_check check (status in ('draft', 'open', 'paid', 'uncollectible', 'void')),
  constraint invoice_paid_check check (paid_at is null or status = 'paid'),
  constraint invoice_currency_check check (currency ~ '^[a-z]{3}$'),
  constraint invoice_stripe_key unique (stripe_invoice_id)
);
create index invoice_subscription_idx on invoice (tenant_id, subscription_id);
create index invoice_by_agency_idx on invoice (agency_id, id desc);
call client_table('invoice');

-- Whose a Stripe object is, for events that name only Stripe's ids.
create table stripe_object (
  -- sha-256 of Stripe's id
  lookup_key      bytea       not null,
  agency_id       uuid        not null,
  tenant_id       uuid        not null,
  -- null for a customer
  subscription_id uuid,
  created_at      timestamptz not null default now(),
  constraint stripe_object_pkey primary key (lookup_key),
  constraint stripe_object_lookup_key_check check (length(lookup_key) = 32)
);
call directory_table('stripe_object');
