-- When a client is open. A version is one row, so there is never half of one; what held before stays.
create table business_hours (
  agency_id  uuid        not null,
  tenant_id  uuid        not null,
  revision   bigint      not null,
  time_zone  text        not null,
  -- the week and the days that are others, as they were given
  hours      jsonb       not null,
  set_by     text        not null,
  valid_from timestamptz not null,
  valid_to   timestamptz,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  constraint business_hours_pkey primary key (tenant_id, revision),
  constraint business_hours_life_check check (valid_to >= valid_from)
);
-- One version holds.
create unique index business_hours_present_key on business_hours (tenant_id) where valid_to is null;
call client_table('business_hours');
