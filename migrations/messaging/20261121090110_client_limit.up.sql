-- What a client's messages are counted against. Written by billing's sagas; `version` is the writer's, `revision` ours.

create table client_limit (
  agency_id       uuid        not null,
  tenant_id       uuid        not null,
  features        text[]      not null,
  limits          jsonb       not null,
  subscription_id uuid        not null,
  period_start_at timestamptz,
  period_end_at   timestamptz,
  version         bigint      not null,
  saga_id         uuid        not null,
  step            text        not null,
  revision        bigint      not null default 1,
  created_at      timestamptz not null default now(),
  updated_at      timestamptz not null default now(),
  constraint client_limit_pkey primary key (tenant_id),
  constraint client_limit_client_fkey foreign key (agency_id, tenant_id)
    references client_sending (agency_id, tenant_id),
  constraint client_limit_version_check check (version >= 1),
  constraint client_limit_limits_check check (jsonb_typeof(limits) = 'object'),
  constraint client_limit_period_check check (period_start_at < period_end_at)
);
create index client_limit_client_fkey_idx on client_limit (agency_id, tenant_id);
call client_table('client_limit');

-- A late write cannot undo a newer one, whoever sends it: versions only rise. The one exception is a step taking back
-- its own write, which carries the version it wrote.
create function client_limit_version_rises() returns trigger
  language plpgsql as $$
begin
  if new.version < old.version or (new.version = old.version and (new.saga_id, new.step) <> (old.saga_id, old.step)) then
    raise exception 'limits went from version % back to %', old.version, new.version
      using errcode = '23514', constraint = 'client_limit_version_rises', table = 'client_limit';
  end if;
  return new;
end
$$;
create trigger client_limit_version_rises before update on client_limit
  for each row execute function client_limit_version_rises();

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
