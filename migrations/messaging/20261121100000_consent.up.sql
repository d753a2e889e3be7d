-- On what grounds people may be written to, and who may not be. The standing of an address on a channel is one row; how it
-- came to that is a history that nobody changes. Lists of those nobody contacts are a client's or the agency's.

create table consent_standing (
  agency_id     uuid        not null,
  tenant_id     uuid        not null,
  channel       text        not null,
  -- E.164, or an email address in lower case
  address       text        not null,
  opted_out_at  timestamptz,
  basis         text,
  given_at      timestamptz,
  -- rises with each entry of the history
  revision      bigint      not null default 0,
  created_at    timestamptz not null default now(),
  updated_at    timestamptz not null default now(),
  constraint consent_standing_pkey primary key (tenant_id, channel, address),
  constraint consent_standing_channel_check check (channel in ('sms', 'whatsapp', 'email', 'voice')),
  constraint consent_standing_address_check check (
    case channel when 'email' then address like '%@%' and address = lower(address) and length(address) <= 254
                 else address ~ '^\+[1-9][0-9]{6,14}$' end),
  constraint consent_standing_basis_check check (
    (basis is null) = (given_at is null)
    and (basis is null or basis in ('inquiry', 'existing_relationship', 'express', 'express_written')))
);
call client_table('consent_standing');

create table consent_event (
  agency_id   uuid        not null,
  tenant_id   uuid        not null,
  id          uuid        not null,
  channel     text        not null,
  address     text        not null,
  revision    bigint      not null,
  kind        text        not null,
  basis       text,
  source      text        not null,
  text        text,
  recorded_by text        not null,
  occurred_at timestamptz not null,
  created_at  timestamptz not null default now(),
  constraint consent_event_pkey primary key (tenant_id, id),
  constraint consent_event_revision_key unique (tenant_id, channel, address, revision),
  constraint consent_event_standing_fkey foreign key (tenant_id, channel, address)
    references consent_standing (tenant_id, channel, address),
  constraint consent_event_kind_check check (kind in ('consent', 'opt_out', 'opt_in')),
  constraint consent_event_basis_check check ((kind = 'consent') = (basis is not null)),
  constraint consent_event_source_check check (length(source) between 1 and 200),
  constraint consent_event_text_check check (length(text) between 1 and 2000)
);
create index consent_event_address_idx on consent_event (tenant_id, address, id desc);
call client_table('consent_event');
call append_only('consent_event');

-- An address is on the list while listed_at is set. The row stays, so that what happens to it keeps its order.
create table client_do_not_contact (
  agency_id  uuid        not null,
  tenant_id  uuid        not null,
  address    text        not null,
  reason     text,
  listed_by  text,
  listed_at  timestamptz,
  revision   bigint      not null default 0,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  constraint client_do_not_contact_pkey primary key (tenant_id, address),
  constraint client_do_not_contact_address_check check (
    address ~ '^\+[1-9][0-9]{6,14}$' or (address like '%@%' and address = lower(address) and length(address) <= 254)),
  constraint client_do_not_contact_reason_check check (length(reason) between 1 and 500),
  constraint client_do_not_contact_listed_check check (
    (listed_at is null) = (reason is null) and (listed_at is null) = (listed_by is null))
);
call client_table('client_do_not_contact');

create table agency_do_not_contact (
  agency_id  uuid        not null,
  address    text        not null,
  reason     text,
  listed_by  text,
  listed_at  timestamptz,
  revision   bigint      not null default 0,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  constraint agency_do_not_contact_pkey primary key (agency_id, address),
  constraint agency_do_not_contact_address_check check (
    address ~ '^\+[1-9][0-9]{6,14}$' or (address like '%@%' and address = lower(address) and length(address) <= 254)),
  constraint agency_do_not_contact_reason_check check (length(reason) between 1 and 500),
  constraint agency_do_not_contact_listed_check check (
    (listed_at is null) = (reason is null) and (listed_at is null) = (listed_by is null))
);
call agency_table('agency_do_not_contact');
