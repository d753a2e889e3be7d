-- Signing in by people: by which addresses they are found before anybody is known, codes that are asked for, sessions.

-- An address of a member, by its keyed hash. It leads to that membership alone: an agency writes down the address, and its own
-- account at a provider carries the code, so a code proves nothing to any other agency.
create table sign_in_address (
  address_hash bytea       not null,
  agency_id    uuid        not null,
  member_id    uuid        not null,
  person_id    uuid        not null,
  is_phone     boolean     not null,
  -- as the member is; said here too, because nobody can look there yet
  active       boolean     not null,
  created_at   timestamptz not null default now(),
  constraint sign_in_address_pkey primary key (address_hash, agency_id, member_id),
  constraint sign_in_address_person_fkey foreign key (person_id) references person (id),
  constraint sign_in_address_hash_check check (length(address_hash) = 32)
);
create index sign_in_address_person_fkey_idx on sign_in_address (person_id);
create index sign_in_address_member_idx on sign_in_address (agency_id, member_id);
call directory_table('sign_in_address');

-- Somebody asked for a code for an address, known or not. The code itself is nowhere: it follows from the id and a key.
create table sign_in_challenge (
  id           uuid        not null,
  address_hash bytea       not null,
  -- the agency that was named, if one was; one that is none when the name means none
  wanted_agency_id uuid,
  -- whose account carried the code, and for which member: set before it is sent, and what the code opens
  agency_id    uuid,
  member_id    uuid,
  used_at      timestamptz,
  created_at   timestamptz not null default now(),
  expires_at   timestamptz not null,
  constraint sign_in_challenge_pkey primary key (id),
  constraint sign_in_challenge_hash_check check (length(address_hash) = 32),
  constraint sign_in_challenge_member_check check ((agency_id is null) = (member_id is null))
);
create index sign_in_challenge_expires_idx on sign_in_challenge (expires_at);
call directory_table('sign_in_challenge');
call expires('sign_in_challenge');

-- When something that is limited happened, over the window that is counted: codes asked for and tried, by address and for all.
create table sign_in_limit (
  limit_key  bytea         not null,
  hits       timestamptz[] not null,
  created_at timestamptz   not null default now(),
  expires_at timestamptz   not null,
  constraint sign_in_limit_pkey primary key (limit_key),
  constraint sign_in_limit_key_check check (length(limit_key) = 32),
  constraint sign_in_limit_hits_check check (cardinality(hits) <= 10000)
) with (fillfactor = 50);
create index sign_in_limit_expires_idx on sign_in_limit (expires_at);
call directory_table('sign_in_limit');
call expires('sign_in_limit');

-- A person who signed in, as one member.
create table sign_in_session (
  id           uuid        not null,
  person_id    uuid        not null,
  agency_id    uuid        not null,
  member_id    uuid        not null,
  revoked_at   timestamptz,
  last_used_at timestamptz not null,
  created_at   timestamptz not null default now(),
  updated_at   timestamptz not null default now(),
  expires_at   timestamptz not null,
  constraint sign_in_session_pkey primary key (id),
  constraint sign_in_session_person_fkey foreign key (person_id) references person (id)
);
create index sign_in_session_person_fkey_idx on sign_in_session (person_id, agency_id, id desc);
create index sign_in_session_member_idx on sign_in_session (agency_id, member_id);
create index sign_in_session_expires_idx on sign_in_session (expires_at);
call directory_table('sign_in_session');
call expires('sign_in_session');

-- The tokens of a session, one after the other. A used one stays: by it a stolen one is noticed.
create table refresh_token (
  token_hash bytea       not null,
  session_id uuid        not null,
  used_at    timestamptz,
  created_at timestamptz not null default now(),
  expires_at timestamptz not null,
  constraint refresh_token_pkey primary key (token_hash),
  constraint refresh_token_session_fkey foreign key (session_id) references sign_in_session (id) on delete cascade,
  constraint refresh_token_hash_check check (length(token_hash) = 32)
) with (fillfactor = 80);
create index refresh_token_session_fkey_idx on refresh_token (session_id);
create index refresh_token_expires_idx on refresh_token (expires_at);
call directory_table('refresh_token');
call expires('refresh_token');
