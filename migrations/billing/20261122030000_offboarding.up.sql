-- Clients that leave (BIL-14): one row a client, of its last off-boarding. While it is not withdrawn, nothing is sold to the
-- client any more.

create table offboarding (
  agency_id    uuid        not null,
  tenant_id    uuid        not null,
  saga_id      uuid        not null,
  -- with the paid period, rather than now
  period_end   boolean     not null,
  -- asked for after that: now after all
  hurried      boolean     not null default false,
  reason       text,
  requested_by text        not null,
  requested_at timestamptz not null,
  withdrawn_at timestamptz,
  -- why it was
  withdrawn_for text,
  completed_at timestamptz,
  revision     bigint      not null default 1,
  created_at   timestamptz not null default now(),
  updated_at   timestamptz not null default now(),
  constraint offboarding_pkey primary key (tenant_id),
  constraint offboarding_account_fkey foreign key (tenant_id) references billing_account (tenant_id) on delete restrict,
  constraint offboarding_reason_check check (length(reason) <= 500),
  constraint offboarding_hurried_check check (period_end or not hurried),
  constraint offboarding_end_check check (withdrawn_at is null or completed_at is null),
  constraint offboarding_withdrawn_check check ((withdrawn_at is null) = (withdrawn_for is null))
);
create unique index offboarding_saga_key on offboarding (saga_id);
create index offboarding_by_agency_idx on offboarding (agency_id, tenant_id);
call client_table('offboarding');

-- Whoever leaves takes no new place, whichever way it is bought. Looked at after the row stands and its foreign key has waited
-- for whoever holds the client's account, as who leaves does: neither misses the other.
create function subscription_of_staying_client() returns trigger
  language plpgsql set search_path from current as $$
begin
  if exists (select from offboarding o where o.tenant_id = new.tenant_id and o.withdrawn_at is null) then
    raise exception 'the client is being off-boarded'
      using errcode = '23514', constraint = 'subscription_of_staying_client', table = 'subscription';
  end if;
  return null;
end
$$;
create trigger subscription_of_staying_client after insert on subscription
  for each row execute function subscription_of_staying_client();
