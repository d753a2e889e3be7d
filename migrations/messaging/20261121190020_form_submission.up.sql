-- What websites' forms brought, each once and as it was sent, and the lead that it was taken for.

create table form_submission (
  agency_id        uuid        not null,
  tenant_id        uuid        not null,
  id               uuid        not null,
  -- integrations' ids: what it was sent to, and what it was stored as
  form_endpoint_id uuid        not null,
  webhook_event_id uuid        not null,
  -- none for a form that names nobody who could be reached
  lead_id          uuid,
  -- [{name, value}], in the order in which they were sent
  fields           jsonb       not null,
  -- [{field, message}]: what could not be taken from it
  problems         jsonb       not null default '[]',
  submitted_at     timestamptz not null,
  created_at       timestamptz not null default now(),
  constraint form_submission_pkey primary key (tenant_id, id),
  constraint form_submission_lead_fkey foreign key (tenant_id, lead_id) references lead (tenant_id, id),
  -- a webhook has its effect once, however often it is handed on
  constraint form_submission_webhook_key unique (tenant_id, webhook_event_id),
  constraint form_submission_fields_check check (jsonb_typeof(fields) = 'array'),
  constraint form_submission_problems_check check (jsonb_typeof(problems) = 'array')
);
create index form_submission_lead_idx on form_submission (tenant_id, lead_id, id desc);
call client_table('form_submission');
call append_only('form_submission');
