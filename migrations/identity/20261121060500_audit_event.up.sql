-- Who did what to what, from every service. What the object looked like before and after stands apart, so that it can
-- be erased; its salted digest stays here, so that a chain over these rows still verifies.

create table audit_event (
  agency_id    uuid        not null,
  id           uuid        not null,
  tenant_id    uuid,
  service      text        not null,
  actor        text        not null,
  action       text        not null,
  target_type  text        not null,
  target_id    text        not null,
  request_id   text,
  trace_id     text,
  occurred_at  timestamptz not null,
  salt         bytea       not null,
  image_digest bytea       not null,
  created_at   timestamptz not null default now(),
  constraint audit_event_pkey primary key (agency_id, id),
  constraint audit_event_salt_check check (length(salt) = 16),
  constraint audit_event_digest_check check (length(image_digest) = 32)
);
create index audit_event_by_action_idx on audit_event (agency_id, action, id desc);
create index audit_event_by_client_idx on audit_event (agency_id, tenant_id, id desc);
call agency_table('audit_event');
call append_only('audit_event');

-- Privileges already refuse it; this also stops whoever owns the table.
create function refuse_audit_change() returns trigger
  language plpgsql as $$
begin
  raise exception 'the audit log is append-only' using errcode = '23001', constraint = 'audit_event_append_only';
end
$$;
create trigger audit_event_append_only before update or delete on audit_event
  for each row execute function refuse_audit_change();
create trigger audit_event_no_truncate before truncate on audit_event
  for each statement execute function refuse_audit_change();

create table audit_image (
  agency_id  uuid        not null,
  event_id   uuid        not null,
  before     jsonb,
  after      jsonb,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  constraint audit_image_pkey primary key (agency_id, event_id),
  constraint audit_image_event_fkey foreign key (agency_id, event_id) references audit_event (agency_id, id)
);
call agency_table('audit_image');
