-- The first answer to an Idempotency-Key, written in the transaction of the effect. A duplicate waits on the unique
-- index until that transaction ends.

create table idempotency_key (
  agency_id    uuid        not null,
  tenant_id    uuid,
  principal    text        not null,
  method       text        not null,
  key          text        not null,
  request_hash bytea       not null,
  -- what the effect started (a saga), while the answer is not yet known
  reference    uuid,
  answer       bytea,
  created_at   timestamptz not null default now(),
  updated_at   timestamptz not null default now(),
  expires_at   timestamptz not null,
  constraint idempotency_key_scope_key unique nulls not distinct (agency_id, tenant_id, principal, method, key),
  constraint idempotency_key_length_check check (length(key) between 1 and 255),
  constraint idempotency_key_hash_check check (length(request_hash) = 32)
);
create index idempotency_key_expires_idx on idempotency_key (expires_at);
call operator_table('idempotency_key', '');
-- Exactly the scope of the transaction, also for a member who sees but some of the agency's clients.
do $$
begin
  execute format('create policy own_scope on idempotency_key for all to %I using (agency_id = current_agency() '
    'and tenant_id is not distinct from current_tenant())', service_role('app'));
  execute format('grant select, insert, update on idempotency_key to %I', service_role('app'));
end
$$;
call expires('idempotency_key');

-- Audit rows wait here, written with the effect, until identity has sealed them into its chain.
create table audit_outbox (
  id           uuid        not null,
  agency_id    uuid        not null,
  tenant_id    uuid,
  actor        text        not null,
  action       text        not null,
  target_type  text        not null,
  target_id    text        not null,
  before       jsonb,
  after        jsonb,
  request_id   text,
  traceparent  text,
  occurred_at  timestamptz not null,
  created_at   timestamptz not null default now(),
  fence        bigint      not null default 0,
  leased_until timestamptz,
  constraint audit_outbox_pkey primary key (id)
) with (fillfactor = 70);
call operator_table('audit_outbox', 'insert');
