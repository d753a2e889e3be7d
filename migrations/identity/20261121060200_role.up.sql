-- What members may do. Built-in roles live in the code (their grid is a reviewed snapshot); an agency's own live here.

create table role (
  agency_id   uuid        not null,
  id          uuid        not null,
  name        text        not null,
  description text,
  version     bigint      not null default 1,
  created_at  timestamptz not null default now(),
  updated_at  timestamptz not null default now(),
  constraint role_pkey primary key (agency_id, id),
  constraint role_agency_fkey foreign key (agency_id) references agency (agency_id),
  constraint role_name_key unique (agency_id, name),
  -- a name must mean one thing: the built-in names are nobody's to take
  constraint role_name_check check (name ~ '^[a-z][a-z0-9_]{0,59}$'
    and name not in ('owner', 'admin', 'agent', 'rep_full_time', 'rep_part_time', 'viewer')),
  constraint role_description_check check (length(description) <= 500)
);
call agency_table('role');

-- One row a permission; no wildcards, so that what a role allows can be read and compared.
create table role_permission (
  agency_id  uuid        not null,
  role_id    uuid        not null,
  permission text        not null,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  constraint role_permission_pkey primary key (agency_id, role_id, permission),
  constraint role_permission_role_fkey foreign key (agency_id, role_id) references role (agency_id, id),
  constraint role_permission_name_check check (permission ~ '^[a-z][a-z0-9_]*\.[a-z][a-z0-9_]*\.[a-z][a-z0-9_]*$')
);
call agency_table('role_permission');

-- A member's role, for the whole agency (no client) or for one client a row.
create table role_binding (
  agency_id  uuid        not null,
  id         uuid        not null,
  member_id  uuid        not null,
  built_in   text,
  role_id    uuid,
  client_id  uuid,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  constraint role_binding_pkey primary key (agency_id, id),
  constraint role_binding_member_fkey foreign key (agency_id, member_id) references member (agency_id, id),
  constraint role_binding_role_fkey foreign key (agency_id, role_id) references role (agency_id, id),
  constraint role_binding_client_fkey foreign key (agency_id, client_id) references client (agency_id, id),
  constraint role_binding_one_role_check check (num_nonnulls(built_in, role_id) = 1),
  constraint role_binding_built_in_check
    check (built_in in ('owner', 'admin', 'agent', 'rep_full_time', 'rep_part_time', 'viewer')),
  -- an owner owns the agency, not some of its clients
  constraint role_binding_owner_check check (built_in is distinct from 'owner' or client_id is null)
);
-- one role a member and client, and one for the agency
create unique index role_binding_scope_key on role_binding (agency_id, member_id, client_id) nulls not distinct;
create index role_binding_role_fkey_idx on role_binding (agency_id, role_id);
create index role_binding_client_fkey_idx on role_binding (agency_id, client_id);
create index role_binding_owner_idx on role_binding (agency_id, member_id) where built_in = 'owner';
call agency_table('role_binding');

-- An agency always has an active owner. Checked when the transaction ends, under the agency's row lock: of two owners
-- who demote each other at once the second to commit sees what the first did, and is refused.
create function keep_an_owner() returns trigger
  language plpgsql as $$
begin
  perform 1 from agency where agency_id = old.agency_id for no key update;
  if not exists (
    select from role_binding b
    join member m on m.agency_id = b.agency_id and m.id = b.member_id
    where b.agency_id = old.agency_id and b.built_in = 'owner' and m.state = 'active'
  ) then
    raise exception 'the agency would have no active owner'
      using errcode = '23514', constraint = 'agency_keeps_an_owner', table = 'agency';
  end if;
  return null;
end
$$;
create constraint trigger agency_keeps_an_owner after update or delete on role_binding
  deferrable initially deferred for each row when (old.built_in = 'owner') execute function keep_an_owner();
create constraint trigger agency_keeps_an_owner after update or delete on member
  deferrable initially deferred for each row when (old.state = 'active') execute function keep_an_owner();

-- An agency is not born without one either.
create function begin_with_an_owner() returns trigger
  language plpgsql as $$
begin
  if not exists (
    select from role_binding b where b.agency_id = new.agency_id and b.built_in = 'owner'
  ) then
    raise exception 'an agency begins with an owner'
      using errcode = '23514', constraint = 'agency_keeps_an_owner', table = 'agency';
  end if;
  return null;
end
$$;
create constraint trigger agency_begins_with_an_owner after insert on agency
  deferrable initially deferred for each row execute function begin_with_an_owner();
