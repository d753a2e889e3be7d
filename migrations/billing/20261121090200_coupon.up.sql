-- Coupons (BIL-03, BIL-04): what an agency takes off, how often, and who has redeemed it.

create table coupon (
  agency_id                  uuid        not null,
  id                         uuid        not null,
  -- as people type it; upper case here, so that its case never matters
  code                       text        not null,
  -- hundredths of a percent: 3333 is 33.33 %
  percent_off_bp             integer,
  amount_off_minor           bigint,
  currency                   text,
  duration                   text        not null,
  duration_in_months         integer,
  max_redemptions            integer,
  max_redemptions_per_client integer,
  first_time_only            boolean     not null default false,
  starts_at                  timestamptz,
  expires_at                 timestamptz,
  state                      text        not null default 'active',
  deactivated_at             timestamptz,
  -- the redemptions that are not released, those that running sagas hold included
  times_redeemed             integer     not null default 0,
  -- set by the first redemption, and never taken back: from then on the terms are history
  first_redeemed_at          timestamptz,
  -- rises with every event about it
  revision                   bigint      not null default 1,
  created_at                 timestamptz not null default now(),
  updated_at                 timestamptz not null default now(),
  constraint coupon_pkey primary key (agency_id, id),
  -- among all, the deactivated too: a code in somebody's old mail never comes to mean something else
  constraint coupon_code_key unique (agency_id, code),
  constraint coupon_code_check check (code ~ '^[A-Z0-9][A-Z0-9_-]{0,59}$'),
  constraint coupon_off_check check (
    (percent_off_bp is not null and amount_off_minor is null and currency is null) or
    (percent_off_bp is null and amount_off_minor is not null and currency is not null)),
  constraint coupon_percent_off_check check (percent_off_bp between 100 and 10000),
  constraint coupon_amount_off_check check (amount_off_minor between 1 and 99999999),
  constraint coupon_currency_check check (currency ~ '^[a-z]{3}$'),
  constraint coupon_duration_check check (duration in ('once', 'repeating', 'forever')),
  constraint coupon_duration_in_months_check check (
    (duration = 'repeating') = (duration_in_months is not null) and duration_in_months between 1 and 120),
  constraint coupon_limits_check check (max_redemptions >= 1 and max_redemptions_per_client >= 1),
  constraint coupon_window_check check (starts_at < expires_at),
  constraint coupon_state_check check (state in ('active', 'deactivated')),
  constraint coupon_deactivated_at_check check ((state = 'deactivated') = (deactivated_at is not null)),
  constraint coupon_times_redeemed_check check (times_redeemed >= 0),
  -- whatever the program believes, nobody redeems more than there are
  constraint coupon_max_redemptions_check check (times_redeemed <= max_redemptions),
  constraint coupon_first_redeemed_at_check check (times_redeemed = 0 or first_redeemed_at is not null)
);
create index coupon_by_state_idx on coupon (agency_id, state, id desc);
call agency_table('coupon');

-- The plans it is for. None: for all.
create table coupon_plan (
  agency_id  uuid        not null,
  coupon_id  uuid        not null,
  plan_id    uuid        not null,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  constraint coupon_plan_pkey primary key (agency_id, coupon_id, plan_id),
  constraint coupon_plan_coupon_fkey foreign key (agency_id, coupon_id) references coupon (agency_id, id) on delete cascade,
  constraint coupon_plan_plan_fkey foreign key (agency_id, plan_id) references plan (agency_id, id) on delete restrict
);
create index coupon_plan_plan_idx on coupon_plan (agency_id, plan_id);
call agency_table('coupon_plan');

-- One use of a coupon, by one subscription.
--
--   reserved -> redeemed          the subscription was activated
--       \          \
--        +----------+-> released  its saga was undone; the place is free again
create table coupon_redemption (
  agency_id       uuid        not null,
  tenant_id       uuid        not null,
  id              uuid        not null,
  coupon_id       uuid        not null,
  subscription_id uuid        not null,
  saga_id         uuid        not null,
  state           text        not null default 'reserved',
  -- what the subscription costs an interval, and what the coupon takes off its first charge
  currency        text        not null,
  amount_minor    bigint      not null,
  discount_minor  bigint      not null,
  redeemed_at     timestamptz,
  released_at     timestamptz,
  created_at      timestamptz not null default now(),
  updated_at      timestamptz not null default now(),
  constraint coupon_redemption_pkey primary key (tenant_id, id),
  -- redeemed coupons are not deleted, so their history stays
  constraint coupon_redemption_coupon_fkey foreign key (agency_id, coupon_id)
    references coupon (agency_id, id) on delete restrict,
  constraint coupon_redemption_subscription_fkey foreign key (tenant_id, subscription_id)
    references subscription (tenant_id, id) on delete restrict,
  constraint coupon_redemption_state_check check (
    case state
      when 'reserved' then redeemed_at is null and released_at is null
      when 'redeemed' then redeemed_at is not null and released_at is null
      when 'released' then released_at is not null
      else false
    end),
  constraint coupon_redemption_currency_check check (currency ~ '^[a-z]{3}$'),
  constraint coupon_redemption_discount_check check (discount_minor between 0 and amount_minor)
);
-- A subscription has one coupon at a time.
create unique index coupon_redemption_one_live_key on coupon_redemption (tenant_id, subscription_id)
  where state <> 'released';
create index coupon_redemption_subscription_idx on coupon_redemption (tenant_id, subscription_id);
create index coupon_redemption_coupon_idx on coupon_redemption (agency_id, coupon_id, state);
create index coupon_redemption_by_client_idx on coupon_redemption (tenant_id, coupon_id, state);
-- what the daily count looks through for reservations that nobody will end
create index coupon_redemption_reserved_idx on coupon_redemption (agency_id, id) where state = 'reserved';
call client_table('coupon_redemption');

-- Where a counter and its rows were found apart, and what was made of it. No foreign key: it outlives its coupon.
create table coupon_drift (
  agency_id             uuid        not null,
  id                    uuid        not null,
  coupon_id             uuid        not null,
  code                  text        not null,
  times_redeemed_before integer     not null,
  redemptions           bigint      not null,
  times_redeemed_after  integer     not null,
  created_at            timestamptz not null default now(),
  constraint coupon_drift_pkey primary key (agency_id, id)
);
create index coupon_drift_coupon_idx on coupon_drift (agency_id, coupon_id, id);
call agency_table('coupon_drift');
call append_only('coupon_drift');

-- What was redeemed stays as it was redeemed, whoever writes.
create function refuse_change_of_redeemed_coupon() returns trigger
  language plpgsql as $$
begin
  if old.first_redeemed_at is not null and (tg_op = 'DELETE' or
     (new.agency_id, new.id, new.code, new.percent_off_bp, new.amount_off_minor, new.currency, new.duration,
      new.duration_in_months, new.max_redemptions, new.max_redemptions_per_client, new.first_time_only, new.starts_at,
      new.expires_at, new.first_redeemed_at, new.created_at)
       is distinct from
     (old.agency_id, old.id, old.code, old.percent_off_bp, old.amount_off_minor, old.currency, old.duration,
      old.duration_in_months, old.max_redemptions, old.max_redemptions_per_client, old.first_time_only, old.starts_at,
      old.expires_at, old.first_redeemed_at, old.created_at)) then
    raise exception 'coupon % was redeemed and is immutable', old.code
      using errcode = 'check_violation', constraint = 'coupon_immutable', table = tg_table_name;
  end if;
  return coalesce(new, old);
end
$$;
create trigger immutable_once_redeemed before update or delete on coupon
  for each row execute function refuse_change_of_redeemed_coupon();

create function refuse_change_of_redeemed_coupon_part() returns trigger
  language plpgsql as $$
declare
  part record := coalesce(new, old);
begin
  if exists (
    select from coupon c
    where c.agency_id = part.agency_id and c.id = part.coupon_id and c.first_redeemed_at is not null
  ) then
    raise exception 'coupon % was redeemed and is immutable', part.coupon_id
      using errcode = 'check_violation', constraint = 'coupon_immutable', table = tg_table_name;
  end if;
  return part;
end
$$;
create trigger immutable_once_redeemed before insert or update or delete on coupon_plan
  for each row execute function refuse_change_of_redeemed_coupon_part();
