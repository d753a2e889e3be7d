-- Where the forms of clients' websites are sent to. The token itself is nowhere: its hash leads to ids, before anyone's name is
-- known.

create table form_endpoint (
  agency_id       uuid        not null,
  tenant_id       uuid        not null,
  id              uuid        not null,
  name            text        not null,
  allowed_origins text[]      not null,
  created_at      timestamptz not null default now(),
  updated_at      timestamptz not null default now(),
  -- the row stays for what is still under way
  deleted_at      timestamptz,
  constraint form_endpoint_pkey primary key (tenant_id, id),
  constraint form_endpoint_name_check check (length(name) between 1 and 100),
  constraint form_endpoint_origins_check check (cardinality(allowed_origins) between 1 and 20)
);
call client_table('form_endpoint');

create table form_endpoint_token (
  token_hash       bytea       not null,
  agency_id        uuid        not null,
  client_id        uuid        not null,
  form_endpoint_id uuid        not null,
  created_at       timestamptz not null default now(),
  constraint form_endpoint_token_pkey primary key (token_hash),
  constraint form_endpoint_token_hash_check check (octet_length(token_hash) = 32)
);
create unique index form_endpoint_token_endpoint_key on form_endpoint_token (form_endpoint_id);
call directory_table('form_endpoint_token');
