-- How a client's sending stands. One row a client, made when messaging first hears of it: whoever changes what the client
-- may send locks this row first, so that a hold and a sale at the same moment see each other.

create table client_sending (
  agency_id   uuid        not null,
  tenant_id   uuid        not null,
  -- a hold stands while these are set
  hold_reason text,
  held_by     text,
  held_at     timestamptz,
  -- rises with each placing, change and lifting of a hold
  revision    bigint      not null default 0,
  created_at  timestamptz not null default now(),
  updated_at  timestamptz not null default now(),
  constraint client_sending_pkey primary key (tenant_id),
  constraint client_sending_agency_key unique (agency_id, tenant_id),
  constraint client_sending_reason_check check (length(hold_reason) between 1 and 500),
  constraint client_sending_hold_check check (
    (hold_reason is null) = (held_by is null) and (hold_reason is null) = (held_at is null))
);
call client_table('client_sending');
