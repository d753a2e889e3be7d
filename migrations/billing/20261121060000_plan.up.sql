-- The catalogue. A plan is what an agency sells; its versions are what a subscriber keeps.

create table plan (
  agency_id      uuid        not null,
  id             uuid        not null,
  name           text        not null,
  state          text        not null default 'active',
  latest_version integer     not null default 1,
  -- rises with every change: what the etag is made from
  revision       bigint      not null default 1,
  archived_at    timestamptz,
  created_at     timestamptz not null default now(),
  updated_at     timestamptz not null default now(),
  constraint plan_pkey primary key (agency_id, id),
  constraint plan_name_check check (length(name) between 1 and 200),
  constraint plan_state_check check (state in ('active', 'archived')),
  constraint plan_archived_at_check check ((state = 'archived') = (archived_at is not null)),
  constraint plan_latest_version_check check (latest_version >= 1)
);
create unique index plan_active_name_key on plan (agency_id, lower(name)) where state = 'active';
call agency_table('plan');

create table plan_version (
  agency_id  uuid        not null,
  plan_id    uuid        not null,
  version    integer     not null,
  name       text        not null,
  trial_days integer     not null default 0,
  features   text[]      not null default '{}',
  -- set by the first subscription; from then on nothing of the version changes
  sold_at    timestamptz,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  constraint plan_version_pkey primary key (agency_id, plan_id, version),
  constraint plan_version_plan_fkey foreign key (agency_id, plan_id) references plan (agency_id, id) on delete restrict,
  constraint plan_version_version_check check (version >= 1),
  constraint plan_version_name_check check (length(name) between 1 and 200),
  constraint plan_version_trial_days_check check (trial_days between 0 and 730),
  constraint plan_version_features_check check (cardinality(features) <= 100 and array_position(features, null) is null)
);
call agency_table('plan_version');

create table plan_price (
  agency_id    uuid        not null,
  plan_id      uuid        not null,
  version      integer     not null,
  currency     text        not null,
  "interval"   text        not null,
  amount_minor bigint      not null,
  -- the order they were given in
  position     integer     not null,
  created_at   timestamptz not null default now(),
  updated_at   timestamptz not null default now(),
  constraint plan_price_pkey primary key (agency_id, plan_id, version, currency, "interval"),
  constraint plan_price_version_fkey foreign key (agency_id, plan_id, version)
    references plan_version (agency_id, plan_id, version) on delete restrict,
  constraint plan_price_currency_check check (currency ~ '^[a-z]{3}$'),
  constraint plan_price_interval_check check ("interval" in ('month', 'year')),
  constraint plan_price_amount_check check (amount_minor between 0 and 99999999)
);
call agency_table('plan_price');

create table plan_limit (
  agency_id          uuid        not null,
  plan_id            uuid        not null,
  version            integer     not null,
  name               text        not null,
  beyond             text        not null,
  included           bigint,
  block_size         bigint,
  price_amount_minor bigint,
  price_currency     text,
  created_at         timestamptz not null default now(),
  updated_at         timestamptz not null default now(),
  constraint plan_limit_pkey primary key (agency_id, plan_id, version, name),
  constraint plan_limit_version_fkey foreign key (agency_id, plan_id, version)
    references plan_version (agency_id, plan_id, version) on delete restrict,
  constraint plan_limit_name_check check (name ~ '^[a-z][a-z0-9_]*$'),
  -- said explicitly, each with exactly what it needs
  constraint plan_limit_beyond_check check (
    case beyond
      when 'block' then included is not null and block_size is null and price_amount_minor is null and price_currency is null
      when 'overage' then included is not null and block_size is not null and price_amount_minor is not null
                          and price_currency is not null
      when 'unlimited' then included is null and block_size is null and price_amount_minor is null and price_currency is null
      else false
    end),
  constraint plan_limit_included_check check (included >= 0),
  constraint plan_limit_block_size_check check (block_size >= 1),
  constraint plan_limit_price_check check (price_amount_minor >= 0 and price_currency ~ '^[a-z]{3}$')
);
call agency_table('plan_limit');

-- What was sold stays as it was sold, whoever writes.
create function refuse_change_of_sold_version() returns trigger
  language plpgsql as $$
begin
  if old.sold_at is not null and (tg_op = 'DELETE' or
     (new.agency_id, new.plan_id, new.version, new.name, new.trial_days, new.features, new.sold_at, new.created_at)
       is distinct from
     (old.agency_id, old.plan_id, old.version, old.name, old.trial_days, old.features, old.sold_at, old.created_at)) then
    raise exception 'version % of plan % was sold and is immutable', old.version, old.plan_id
      using errcode = 'check_violation', constraint = 'plan_version_immutable', table = tg_table_name;
  end if;
  return coalesce(new, old);
end
$$;
create trigger immutable_once_sold before update or delete on plan_version
  for each row execute function refuse_change_of_sold_version();

create function refuse_change_of_sold_part() returns trigger
  language plpgsql as $$
declare
  part record := coalesce(new, old);
begin
  if exists (
    select from plan_version v
    where v.agency_id = part.agency_id and v.plan_id = part.plan_id and v.version = part.version
      and v.sold_at is not null
  ) then
    raise exception 'version % of plan % was sold and is immutable', part.version, part.plan_id
      using errcode = 'check_violation', constraint = 'plan_version_immutable', table = tg_table_name;
  end if;
  return part;
end
$$;
create trigger immutable_once_sold before insert or update or delete on plan_price
  for each row execute function refuse_change_of_sold_part();
create trigger immutable_once_sold before insert or update or delete on plan_limit
  for each row execute function refuse_change_of_sold_part();

-- The price at Stripe that a price of ours became. Absent until the first sale.
create table stripe_price (
  agency_id         uuid        not null,
  plan_id           uuid        not null,
  version           integer     not null,
  currency          text        not null,
  "interval"        text        not null,
  stripe_product_id text        not null,
  stripe_price_id   text        not null,
  created_at        timestamptz not null default now(),
  updated_at        timestamptz not null default now(),
  constraint stripe_price_pkey primary key (agency_id, plan_id, version, currency, "interval"),
  constraint stripe_price_price_fkey foreign key (agency_id, plan_id, version, currency, "interval")
    references plan_price (agency_id, plan_id, version, currency, "interval") on delete restrict
);
call agency_table('stripe_price');
