-- Calls that came in (MSG-40): one row a call of the provider's, whatever order its callbacks come in. Its status only rises.

create table call (
  agency_id        uuid        not null,
  tenant_id        uuid        not null,
  id               uuid        not null,
  lead_id          uuid        not null,
  provider         text        not null,
  -- the provider's id: Twilio's CallSid
  provider_id      text        not null,
  -- ours: the number that was called
  sender           text        not null,
  -- theirs
  address          text        not null,
  status           text        not null,
  -- whether the phone that it was put through to has said how it ended; what the caller's side says counts for less
  settled          boolean     not null default false,
  missed_because   text,
  duration_seconds int,
  started_at       timestamptz not null,
  ended_at         timestamptz,
  revision         bigint      not null default 1,
  created_at       timestamptz not null default now(),
  updated_at       timestamptz not null default now(),
  constraint call_pkey primary key (tenant_id, id),
  constraint call_lead_fkey foreign key (tenant_id, lead_id) references lead (tenant_id, id),
  constraint call_provider_key unique (tenant_id, provider, provider_id),
  constraint call_provider_id_check check (length(provider_id) between 1 and 255),
  constraint call_status_check check (status in ('ringing', 'in_progress', 'completed', 'missed')),
  constraint call_missed_check check (
    (status = 'missed') = (missed_because is not null)
    and (missed_because is null or missed_because in ('no_answer', 'busy', 'failed', 'canceled'))),
  constraint call_ended_check check ((status in ('completed', 'missed')) = (ended_at is not null)),
  constraint call_duration_check check (duration_seconds >= 0)
);
-- What the gate asks of an address: when they rang last.
create index call_address_idx on call (tenant_id, address, started_at desc);
create index call_lead_idx on call (tenant_id, lead_id, id desc);
-- Whose a call is when its callbacks name no number.
create index call_by_agency_idx on call (agency_id, provider_id);
call client_table('call');
