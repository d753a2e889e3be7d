-- The life of a subscription after it was started: changes that are asked for, grace, payments that wait (BIL-12, 13, 17, 51).
alter table subscription
  -- ends with its period unless it is reactivated before
  add column cancel_at_period_end boolean not null default false,
  -- while paused: when collection begins again by itself
  add column resumes_at timestamptz,
  -- while past due: until when it still grants what was sold
  add column grace_ends_at timestamptz,
  -- the trial that was granted; fewer than the plan's when there was one before
  add column trial_days integer not null default 0,
  -- the one saga that changes it; none starts while another runs
  add column change_saga_id uuid,
  -- a first payment that its payer must authenticate
  add column payment_intent_id text,
  add column payment_client_secret text,
  -- asked to end while its first payment was waited for
  add column cancel_requested_at timestamptz;
-- mainstay:allow every row satisfies it: the columns are new and at their defaults
alter table subscription add constraint subscription_trial_days_check check (trial_days between 0 and 730);
-- mainstay:allow every row satisfies it: the columns are new and at their defaults
alter table subscription add constraint subscription_payment_check check
    (payment_client_secret is null or (payment_intent_id is not null and status = 'incomplete'));
-- mainstay:allow every row satisfies it: the columns are new and at their defaults
alter table subscription add constraint subscription_resumes_check check (resumes_at is null or status = 'paused');
-- mainstay:allow every row satisfies it: the columns are new and at their defaults
alter table subscription add constraint subscription_grace_check check (grace_ends_at is null or status = 'past_due');

-- One trial for each payment card in an agency, whoever brings it (BIL-13). Of the card only a digest of the provider's
-- fingerprint is kept.
create table trial_claim (
  agency_id       uuid        not null,
  fingerprint     bytea       not null,
  tenant_id       uuid        not null,
  subscription_id uuid        not null,
  created_at      timestamptz not null default now(),
  updated_at      timestamptz not null default now(),
  constraint trial_claim_pkey primary key (agency_id, fingerprint),
  constraint trial_claim_fingerprint_check check (length(fingerprint) = 32)
);
call agency_table('trial_claim');
