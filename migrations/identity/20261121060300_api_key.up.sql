-- Credentials for programs. The secret itself is nowhere: its keyed hash leads to ids, before anyone is authenticated.

create table api_key (
  agency_id  uuid        not null,
  id         uuid        not null,
  name       text        not null,
  -- what a person recognises it by; too short to help anyone guess
  prefix     text        not null,
  -- the one client it may reach; null for the whole agency
  client_id  uuid,
  -- whose key it is: it may then do what that member may, as that changes. Null: what api_key_permission lists.
  member_id  uuid,
  created_by text        not null,
  expires_at timestamptz,
  revoked_at timestamptz,
  version    bigint      not null default 1,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  constraint api_key_pkey primary key (agency_id, id),
  constraint api_key_agency_fkey foreign key (agency_id) references agency (agency_id),
  constraint api_key_client_fkey foreign key (agency_id, client_id) references client (agency_id, id),
  constraint api_key_member_fkey foreign key (agency_id, member_id) references member (agency_id, id),
  constraint api_key_name_check check (length(name) between 1 and 100),
  constraint api_key_one_reach_check check (member_id is null or client_id is null)
);
create index api_key_client_fkey_idx on api_key (agency_id, client_id);
create index api_key_member_fkey_idx on api_key (agency_id, member_id);
call agency_table('api_key');

create table api_key_permission (
  agency_id  uuid        not null,
  api_key_id uuid        not null,
  permission text        not null,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  constraint api_key_permission_pkey primary key (agency_id, api_key_id, permission),
  constraint api_key_permission_key_fkey foreign key (agency_id, api_key_id) references api_key (agency_id, id),
  constraint api_key_permission_name_check check (permission ~ '^[a-z][a-z0-9_]*\.[a-z][a-z0-9_]*\.[a-z][a-z0-9_]*$')
);
call agency_table('api_key_permission');

-- Several secrets a key, so that a new one can be rolled out while the old one still opens the door.
create table api_key_secret (
  secret_hash  bytea       not null,
  agency_id    uuid        not null,
  api_key_id   uuid        not null,
  valid_until  timestamptz,
  -- to the minute; in no index, so noting it is a HOT update
  last_used_at timestamptz,
  created_at   timestamptz not null default now(),
  constraint api_key_secret_pkey primary key (secret_hash),
  constraint api_key_secret_hash_check check (length(secret_hash) = 32)
) with (fillfactor = 70);
create index api_key_secret_key_idx on api_key_secret (agency_id, api_key_id);
call directory_table('api_key_secret');
