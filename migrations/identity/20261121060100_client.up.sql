-- The clients of an agency: the register that every tenant id comes from. Class agency, because making one is the
-- agency's act; the second policy keeps whoever sees some clients from seeing the others.

create table client (
  agency_id  uuid        not null,
  id         uuid        not null,
  name       text        not null,
  email      text        not null,
  phone      text,
  time_zone  text        not null,
  state      text        not null,
  version    bigint      not null default 1,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  constraint client_pkey primary key (agency_id, id),
  -- a tenant belongs to one agency for ever: caches of this relation need no end
  constraint client_id_key unique (id),
  constraint client_agency_fkey foreign key (agency_id) references agency (agency_id),
  constraint client_state_check check (state in ('prospect', 'onboarding', 'active', 'suspended', 'canceled')),
  constraint client_name_check check (length(name) between 1 and 200),
  constraint client_email_check check (length(email) between 3 and 254),
  constraint client_phone_check check (phone ~ '^\+[1-9][0-9]{6,14}$'),
  constraint client_time_zone_check check (length(time_zone) between 1 and 60)
);
create unique index client_email_key on client (agency_id, lower(email)) where state <> 'canceled';
create index client_by_state_idx on client (agency_id, state, id desc);
call agency_table('client');

create policy client_visible on client as restrictive for all
  using (id = current_tenant() or sees_all_clients() or id = any (visible_clients()))
  with check (id = current_tenant() or sees_all_clients() or id = any (visible_clients()));

-- A client's history, money and consent outlive it: it is canceled, never deleted.
create function refuse_client_delete() returns trigger
  language plpgsql as $$
begin
  raise exception 'clients are canceled, never deleted' using errcode = '23001', constraint = 'client_no_hard_delete';
end
$$;
create trigger client_no_hard_delete before delete on client for each row execute function refuse_client_delete();
