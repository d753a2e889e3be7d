-- What the services' health reports say, look by look: what is seen twice in a row is raised, what is missed twice is over.
create table health_sighting (
  service    text        not null,
  subject    text        not null,
  kind       text        not null,
  severity   text        not null,
  detail     text        not null,
  -- looks in a row in which it was there, and since then in which it was not
  seen       int         not null,
  missed     int         not null,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  constraint health_sighting_pkey primary key (service, kind, subject),
  constraint health_sighting_counts_check check (seen > 0 and missed >= 0)
);
call infrastructure_table('health_sighting');
