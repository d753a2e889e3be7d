-- The durable queue. A ready row is not updated when it is claimed: the lease is a narrow row of its own, so that
-- heartbeats and claims leave no dead tuples in the index that every claim reads.

create table job (
  id           uuid        not null,
  kind         text        not null,
  priority     smallint    not null default 1,
  run_at       timestamptz not null,
  payload      jsonb       not null,
  unique_key   text,
  agency_id    uuid,
  tenant_id    uuid,
  -- attempts that have ended without success; a claim alone changes nothing here
  attempt      integer     not null default 0,
  max_attempts integer     not null,
  last_error   text,
  traceparent  text,
  created_at   timestamptz not null default now(),
  constraint job_pkey primary key (id),
  constraint job_priority_check check (priority between 0 and 3),
  constraint job_max_attempts_check check (max_attempts between 1 and 100),
  constraint job_tenant_needs_agency_check check (tenant_id is null or agency_id is not null),
  constraint job_kind_check check (kind ~ '^[a-z][a-z0-9_.]{0,99}$')
);
-- One range scan a priority: rows scheduled far ahead cost a claim nothing.
create index job_claim_idx on job (priority, run_at, id);
create unique index job_unique_key on job (kind, agency_id, tenant_id, unique_key) nulls not distinct
  where unique_key is not null;
create index job_by_agency_idx on job (agency_id, kind);
call operator_table('job', 'insert, select');

-- Every claim takes a higher fence than any before it.
create sequence job_fence as bigint;

create table job_lease (
  job_id       uuid        not null,
  fence        bigint      not null,
  runner       uuid        not null,
  claimed_at   timestamptz not null default clock_timestamp(),
  -- in no index, so a heartbeat is a HOT update
  leased_until timestamptz not null,
  constraint job_lease_pkey primary key (job_id),
  constraint job_lease_job_fkey foreign key (job_id) references job (id) on delete cascade
) with (fillfactor = 50);
call infrastructure_table('job_lease');

create table job_dead_letter (
  id           uuid        not null,
  kind         text        not null,
  priority     smallint    not null,
  payload      jsonb       not null,
  unique_key   text,
  agency_id    uuid,
  tenant_id    uuid,
  attempt      integer     not null,
  max_attempts integer     not null,
  last_error   text        not null,
  traceparent  text,
  enqueued_at  timestamptz not null,
  created_at   timestamptz not null default now(),
  expires_at   timestamptz not null default now() + interval '90 days',
  constraint job_dead_letter_pkey primary key (id)
);
create index job_dead_letter_by_agency_idx on job_dead_letter (agency_id, created_at desc, id desc);
create index job_dead_letter_expires_idx on job_dead_letter (expires_at);
call operator_table('job_dead_letter', 'select');
call expires('job_dead_letter');

do $$
begin
  execute format('grant usage on sequence job_fence to %I', service_role('worker'));
end
$$;
