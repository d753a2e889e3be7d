-- What began each client that began outside: a paid checkout, say. An origin is one client's for ever, so whoever asks
-- again, also at the same moment, is given the same one.

create table client_origin (
  agency_id  uuid        not null,
  origin     text        not null,
  client_id  uuid        not null,
  created_at timestamptz not null default now(),
  constraint client_origin_pkey primary key (agency_id, origin),
  constraint client_origin_client_fkey foreign key (agency_id, client_id) references client (agency_id, id),
  constraint client_origin_length_check check (length(origin) between 1 and 255)
);
create index client_origin_client_fkey_idx on client_origin (agency_id, client_id);
call agency_table('client_origin');
call append_only('client_origin');
