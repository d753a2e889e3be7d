-- The classes a table can have. Each procedure checks what the class demands, then writes the walls.
-- Role names: the owner `mainstay_<service>_owner_<suffix>` runs migrations; its app and worker differ in one word.

-- The transaction's agency, tenant and visible clients. Empty after commit, hence nullif.
create function current_agency() returns uuid
  language sql stable parallel safe
  return nullif(current_setting('mainstay.agency_id', true), '')::uuid;

create function current_tenant() returns uuid
  language sql stable parallel safe
  return nullif(current_setting('mainstay.tenant_id', true), '')::uuid;

-- AgencyTx only: all clients of the agency, or those listed. Null (so: nothing) in a TenantTx.
create function sees_all_clients() returns boolean
  language sql stable parallel safe
  return coalesce(current_setting('mainstay.visible', true), '') = '*';

create function visible_clients() returns uuid[]
  language sql stable parallel safe
  return case when coalesce(current_setting('mainstay.visible', true), '') in ('', '*') then null
              else current_setting('mainstay.visible', true)::uuid[] end;

-- A statement that sets updated_at itself (from the Clock) is believed; one that forgets is mended.
create function touch_updated_at() returns trigger
  language plpgsql as $$
begin
  if new.updated_at is not distinct from old.updated_at then
    new.updated_at := now();
  end if;
  return new;
end
$$;

-- What the purge job deletes, in batches: rows past expires_at for which `only_when` holds.
create table retention (
  table_name text not null,
  only_when  text not null default 'true',
  created_at timestamptz not null default now(),
  constraint retention_pkey primary key (table_name)
);

create function service_role(kind text) returns text
  language sql stable
  return replace(current_user::text, '_owner_', '_' || kind || '_');

-- Raises unless the table has the column, of that type and, unless `nullable`, not null.
create procedure demand_column(tab text, col text, type_name text, nullable boolean default false)
  language plpgsql as $$
begin
  if not exists (
    select from pg_attribute a
    where a.attrelid = tab::regclass and a.attname = col and not a.attisdropped
      and a.atttypid = type_name::regtype and (nullable or a.attnotnull)
  ) then
    raise exception 'table % needs column % % %', tab, col, type_name, case when nullable then '' else 'not null' end;
  end if;
end
$$;

create procedure demand_key_prefix(tab text, col text)
  language plpgsql as $$
begin
  if not exists (
    select from pg_index i
    join pg_attribute a on a.attrelid = i.indrelid and a.attnum = i.indkey[0]
    where i.indrelid = tab::regclass and i.indisprimary and a.attname = col
  ) then
    raise exception 'the primary key of % must start with %', tab, col;
  end if;
end
$$;

create procedure watch_updated_at(tab text)
  language plpgsql as $$
begin
  if exists (select from pg_attribute where attrelid = tab::regclass and attname = 'updated_at' and not attisdropped) then
    execute format('create trigger touch_updated_at before update on %I for each row execute function touch_updated_at()', tab);
  end if;
end
$$;

create procedure wall_up(tab text)
  language plpgsql as $$
begin
  call demand_column(tab, 'created_at', 'timestamptz');
  execute format('alter table %I enable row level security', tab);
  execute format('alter table %I force row level security', tab);
  call watch_updated_at(tab);
end
$$;

create procedure client_table(tab text)
  language plpgsql as $$
declare
  app text := service_role('app');
  worker text := service_role('worker');
begin
  call demand_column(tab, 'agency_id', 'uuid');
  call demand_column(tab, 'tenant_id', 'uuid');
  call demand_key_prefix(tab, 'tenant_id');
  call wall_up(tab);
  execute format(
    'create policy tenant_wall on %I for all to %I, %I '
    'using (agency_id = current_agency() and tenant_id = current_tenant()) '
    'with check (agency_id = current_agency() and tenant_id = current_tenant())', tab, app, worker);
  -- The door for lists across an agency's clients. For select alone: writes need the tenant's wall.
  execute format(
    'create policy agency_door on %I for select to %I, %I '
    'using (agency_id = current_agency() and (sees_all_clients() or tenant_id = any (visible_clients())))', tab, app, worker);
  execute format('grant select, insert, update, delete on %I to %I, %I', tab, app, worker);
end
$$;

create procedure agency_table(tab text)
  language plpgsql as $$
declare
  app text := service_role('app');
  worker text := service_role('worker');
begin
  call demand_column(tab, 'agency_id', 'uuid');
  call demand_key_prefix(tab, 'agency_id');
  call wall_up(tab);
  execute format(
    'create policy agency_wall on %I for all to %I, %I '
    'using (agency_id = current_agency()) with check (agency_id = current_agency())', tab, app, worker);
  execute format('grant select, insert, update, delete on %I to %I, %I', tab, app, worker);
end
$$;

create procedure directory_table(tab text)
  language plpgsql as $$
begin
  call demand_column(tab, 'created_at', 'timestamptz');
  call watch_updated_at(tab);
  execute format('grant select, insert, update, delete on %I to %I, %I', tab, service_role('app'), service_role('worker'));
end
$$;

create procedure infrastructure_table(tab text)
  language plpgsql as $$
begin
  call watch_updated_at(tab);
  execute format('grant select, insert, update, delete on %I to %I', tab, service_role('worker'));
end
$$;

-- Machinery's rows that an agency's operator may look at. `app_privileges`: any of insert, select, update.
create procedure operator_table(tab text, app_privileges text default 'insert, select')
  language plpgsql as $$
declare
  app text := service_role('app');
  worker text := service_role('worker');
begin
  if app_privileges !~ '^(((insert|select|update)(, *|$))*)$' then
    raise exception 'operator_table(%): app privileges can be insert, select, update; not %', tab, app_privileges;
  end if;
  call demand_column(tab, 'agency_id', 'uuid', nullable => true);
  call demand_column(tab, 'tenant_id', 'uuid', nullable => true);
  call wall_up(tab);
  execute format('create policy worker_all on %I for all to %I using (true) with check (true)', tab, worker);
  execute format('grant select, insert, update, delete on %I to %I', tab, worker);
  if app_privileges ~ 'select' then
    -- An agency's row without a tenant is seen by those who see all its clients, and by the transaction of a tenant
    -- only if it is that tenant's.
    execute format(
      'create policy operator_door on %I for select to %I using (agency_id = current_agency() and ('
      'tenant_id = current_tenant() or sees_all_clients() or tenant_id = any (visible_clients())))', tab, app);
  end if;
  if app_privileges ~ 'insert' then
    -- Before anyone is authenticated there is no agency: such rows carry none. A tenant's transaction writes its
    -- tenant's rows or its agency's, an agency's transaction rows of clients it sees.
    execute format(
      'create policy own_insert on %I for insert to %I with check (agency_id is not distinct from current_agency() and ('
      'tenant_id is null or tenant_id = current_tenant() or sees_all_clients() or tenant_id = any (visible_clients())))',
      tab, app);
  end if;
  if app_privileges ~ 'update' then
    execute format(
      'create policy own_update on %I for update to %I using (agency_id = current_agency() and ('
      'tenant_id is not distinct from current_tenant() or sees_all_clients() or tenant_id = any (visible_clients())))',
      tab, app);
  end if;
  if app_privileges <> '' then
    execute format('grant %s on %I to %I', app_privileges, tab, app);
  end if;
end
$$;

create procedure append_only(tab text)
  language plpgsql as $$
begin
  execute format('revoke update, delete on %I from %I, %I', tab, service_role('app'), service_role('worker'));
end
$$;

create procedure expires(tab text, only_when text default 'true')
  language plpgsql as $$
begin
  call demand_column(tab, 'expires_at', 'timestamptz');
  insert into retention (table_name, only_when) values (tab, only_when);
end
$$;

call infrastructure_table('retention');
