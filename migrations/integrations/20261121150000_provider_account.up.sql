-- Accounts at providers, their credentials, and the senders on them (INT-15, INT-16). What a provider gave is sealed under a
-- key of its agency; that key is sealed under a master key, which is in no database. Whoever has the database has nothing.

-- One key an agency. The machinery seals them anew under the next master key, whosever they are.
create table agency_data_key (
  agency_id     uuid        not null,
  -- always the whole agency's; the column is what the class demands
  tenant_id     uuid,
  -- which master key `sealed` needs, by the name it has in the configuration
  master_key_id text        not null,
  sealed        bytea       not null,
  created_at    timestamptz not null default now(),
  updated_at    timestamptz not null default now(),
  constraint agency_data_key_pkey primary key (agency_id),
  constraint agency_data_key_tenant_check check (tenant_id is null),
  constraint agency_data_key_sealed_check check (octet_length(sealed) between 28 and 256),
  constraint agency_data_key_master_check check (length(master_key_id) between 1 and 40)
);
call operator_table('agency_data_key', 'insert, select');

create table provider_account (
  agency_id            uuid        not null,
  id                   uuid        not null,
  provider             text        not null,
  name                 text        not null,
  state                text        not null default 'active',
  is_default           boolean     not null default false,
  -- the last four characters of what it is signed in with
  hint                 text        not null,
  -- the credentials in force; those before may still verify webhooks
  credentials_revision bigint      not null default 1,
  -- stands in webhook addresses; what is sent there is believed for its signature, not for the address
  endpoint_token       text,
  revision             bigint      not null default 1,
  created_at           timestamptz not null default now(),
  updated_at           timestamptz not null default now(),
  deleted_at           timestamptz,
  constraint provider_account_pkey primary key (agency_id, id),
  constraint provider_account_provider_check check (provider in ('twilio', 'resend', 'sendgrid', 'openai')),
  constraint provider_account_state_check check (state in ('active', 'disabled', 'deleted')),
  constraint provider_account_deleted_check check ((state = 'deleted') = (deleted_at is not null)),
  constraint provider_account_default_check check (not is_default or state <> 'deleted'),
  constraint provider_account_name_check check (length(name) between 1 and 100),
  constraint provider_account_hint_check check (length(hint) <= 4)
);
create unique index provider_account_one_default_key on provider_account (agency_id, provider) where is_default;
create index provider_account_by_agency_idx on provider_account (agency_id, id desc) where state <> 'deleted';
call agency_table('provider_account');

-- What a provider gave, each rotation a row. Rows that are past their time are purged like everything that expires.
create table provider_credential (
  agency_id  uuid        not null,
  tenant_id  uuid,
  account_id uuid        not null,
  revision   bigint      not null,
  sealed     bytea       not null,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  -- 'infinity' for those in force
  expires_at timestamptz not null default 'infinity',
  constraint provider_credential_pkey primary key (agency_id, account_id, revision),
  constraint provider_credential_account_fkey foreign key (agency_id, account_id) references provider_account (agency_id, id),
  constraint provider_credential_tenant_check check (tenant_id is null),
  constraint provider_credential_sealed_check check (octet_length(sealed) between 28 and 8192)
);
create index provider_credential_expires_idx on provider_credential (expires_at);
call operator_table('provider_credential', 'insert, select, update');
call expires('provider_credential');

-- From the token in a webhook's address, and from the account of a stored webhook, to the agency: both are known before
-- anybody's name is.
create table provider_endpoint (
  token_hash bytea       not null,
  agency_id  uuid        not null,
  account_id uuid        not null,
  created_at timestamptz not null default now(),
  constraint provider_endpoint_pkey primary key (token_hash),
  constraint provider_endpoint_hash_check check (octet_length(token_hash) = 32)
);
create unique index provider_endpoint_account_key on provider_endpoint (account_id);
call directory_table('provider_endpoint');

create table sender (
  agency_id       uuid             not null,
  id              uuid             not null,
  account_id      uuid             not null,
  channel         text             not null,
  -- as people read it
  address         text             not null,
  -- as it is compared: the number, or the mail address alone in lower case
  address_key     text             not null,
  client_id       uuid,
  rate_per_second double precision not null,
  state           text             not null default 'active',
  revision        bigint           not null default 1,
  created_at      timestamptz      not null default now(),
  updated_at      timestamptz      not null default now(),
  constraint sender_pkey primary key (agency_id, id),
  constraint sender_account_fkey foreign key (agency_id, account_id) references provider_account (agency_id, id),
  constraint sender_channel_check check (channel in ('sms', 'email', 'voice')),
  constraint sender_address_check check (
    length(address) between 3 and 320
    and case channel when 'email' then address_key like '%@%' and address_key = lower(address_key)
                     else address_key ~ '^\+[1-9][0-9]{6,14}$' and address = address_key end),
  constraint sender_rate_check check (rate_per_second > 0 and rate_per_second <= 1000),
  constraint sender_state_check check (state in ('active', 'disabled'))
);
-- What is written to an address has one receiver.
create unique index sender_active_address_key on sender (agency_id, channel, address_key) where state = 'active';
create index sender_account_idx on sender (agency_id, account_id, address_key);
create index sender_client_idx on sender (agency_id, client_id, channel);
call agency_table('sender');
