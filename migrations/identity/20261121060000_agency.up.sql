-- Agencies, the outer wall, and the people who work in them.

create table agency (
  agency_id  uuid        not null,
  slug       text        not null,
  name       text        not null,
  state      text        not null default 'active',
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  constraint agency_pkey primary key (agency_id),
  constraint agency_slug_check check (slug ~ '^[a-z][a-z0-9_]{0,59}$'),
  constraint agency_name_check check (length(name) between 1 and 200),
  constraint agency_state_check check (state in ('active', 'closed'))
);
call agency_table('agency');

-- Which agency a slug means, before anybody has said which agency they belong to.
create table agency_slug (
  slug_hash  bytea       not null,
  agency_id  uuid        not null,
  created_at timestamptz not null default now(),
  constraint agency_slug_pkey primary key (slug_hash),
  constraint agency_slug_hash_check check (length(slug_hash) = 32)
);
call directory_table('agency_slug');

-- One human being, known by a keyed hash of the email address and nothing else: a name or number that one agency
-- wrote down stays in that agency's member row, so that no agency learns from another's.
create table person (
  email_hash bytea       not null,
  id         uuid        not null,
  created_at timestamptz not null default now(),
  constraint person_pkey primary key (email_hash),
  constraint person_id_key unique (id),
  constraint person_hash_check check (length(email_hash) = 32)
);
call directory_table('person');

-- The one register of who works in an agency: staff, agents and reps alike (CS L1).
create table member (
  agency_id  uuid        not null,
  id         uuid        not null,
  person_id  uuid        not null,
  name       text        not null,
  email      text        not null,
  phone      text,
  state      text        not null default 'active',
  version    bigint      not null default 1,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  constraint member_pkey primary key (agency_id, id),
  constraint member_agency_fkey foreign key (agency_id) references agency (agency_id),
  constraint member_person_fkey foreign key (person_id) references person (id),
  constraint member_person_key unique (agency_id, person_id),
  constraint member_state_check check (state in ('active', 'deactivated')),
  constraint member_name_check check (length(name) between 1 and 200),
  constraint member_email_check check (length(email) between 3 and 254)
);
create index member_person_fkey_idx on member (person_id);
call agency_table('member');
