-- What a client may use. Written by billing's sagas, read by everybody; `version` is the writer's, `revision` ours.

create table entitlement (
  agency_id           uuid        not null,
  tenant_id           uuid        not null,
  features            text[]      not null,
  limits              jsonb       not null,
  subscription_id     uuid        not null,
  plan_id             uuid        not null,
  subscription_status text        not null,
  paid_through_at     timestamptz,
  version             bigint      not null,
  saga_id             uuid        not null,
  step                text        not null,
  revision            bigint      not null default 1,
  created_at          timestamptz not null default now(),
  updated_at          timestamptz not null default now(),
  constraint entitlement_pkey primary key (tenant_id),
  constraint entitlement_client_fkey foreign key (agency_id, tenant_id) references client (agency_id, id),
  constraint entitlement_version_check check (version >= 1),
  constraint entitlement_limits_check check (jsonb_typeof(limits) = 'object')
);
create index entitlement_client_fkey_idx on entitlement (agency_id, tenant_id);
call client_table('entitlement');

-- A late write cannot undo a newer one, whoever sends it: versions only rise. The one exception is a step taking back
-- its own write, which carries the version it wrote.
create function entitlement_version_rises() returns trigger
  language plpgsql as $$
begin
  if new.version < old.version or (new.version = old.version and (new.saga_id, new.step) <> (old.saga_id, old.step)) then
    raise exception 'entitlements went from version % back to %', old.version, new.version
      using errcode = '23514', constraint = 'entitlement_version_rises', table = 'entitlement';
  end if;
  return new;
end
$$;
create trigger entitlement_version_rises before update on entitlement
  for each row execute function entitlement_version_rises();

-- What was heard of each saga step: the highest fence, whether it was done, whether it was undone (the tombstone that
-- refuses a late do). Kept well beyond the time a saga may still retry.
create table saga_step (
  agency_id  uuid        not null,
  tenant_id  uuid        not null,
  saga_id    uuid        not null,
  step       text        not null,
  fence      bigint      not null,
  done       boolean     not null,
  undone     boolean     not null,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  expires_at timestamptz not null,
  constraint saga_step_pkey primary key (tenant_id, saga_id, step),
  constraint saga_step_fence_check check (fence >= 1)
);
create index saga_step_expires_idx on saga_step (expires_at);
call operator_table('saga_step', 'insert, select, update');
call expires('saga_step');
