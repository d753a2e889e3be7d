-- The leads of a client. An address belongs to one lead, whatever the channel: whoever texts and whoever is known by
-- WhatsApp under the same number is the same person. A lead that was merged stays and names the one it is part of.

create table lead (
  agency_id       uuid        not null,
  tenant_id       uuid        not null,
  id              uuid        not null,
  name            text,
  -- the name in lower case, in byte order: what a search by its beginning reads. Row security lets only comparisons that
  -- leak nothing use an index, and those of bytes do not.
  name_key        text        collate "C",
  -- what another system calls it
  external_id     text,
  status          text        not null,
  source          text        not null,
  industry        text,
  time_zone       text,
  -- of the United States or Canada, by two letters
  state           text,
  custom_fields   jsonb       not null default '{}',
  owner_member_id uuid,
  engagement      text        not null,
  task_priority   text        not null,
  merged_into     uuid,
  -- rises with each change
  revision        bigint      not null default 1,
  created_at      timestamptz not null default now(),
  updated_at      timestamptz not null default now(),
  constraint lead_pkey primary key (tenant_id, id),
  constraint lead_external_id_key unique (tenant_id, external_id),
  constraint lead_merged_into_fkey foreign key (tenant_id, merged_into) references lead (tenant_id, id),
  constraint lead_merged_into_check check (merged_into <> id),
  constraint lead_name_check check (length(name) between 1 and 200 and (name is null) = (name_key is null)),
  constraint lead_external_id_check check (length(external_id) between 1 and 200),
  constraint lead_status_check check (
    status in ('new', 'contacted', 'engaged', 'qualified', 'booked', 'won', 'lost')),
  constraint lead_source_check check (
    source in ('api', 'manual', 'import', 'form', 'inbound_sms', 'inbound_whatsapp', 'inbound_email', 'inbound_call',
               'advertisement', 'referral', 'partner', 'other')),
  constraint lead_industry_check check (
    industry in ('roofing', 'hvac', 'plumbing', 'electrical', 'landscaping', 'cleaning', 'construction', 'automotive',
                 'real_estate', 'legal', 'medical', 'dental', 'fitness', 'beauty', 'restaurant', 'retail', 'insurance',
                 'finance', 'education', 'technology', 'other')),
  constraint lead_state_check check (state ~ '^[A-Z]{2}$'),
  constraint lead_custom_fields_check check (
    jsonb_typeof(custom_fields) = 'object' and length(custom_fields::text) <= 80000),
  constraint lead_engagement_check check (engagement in ('hot', 'warm', 'cold')),
  constraint lead_task_priority_check check (task_priority in ('high', 'medium', 'low'))
);
create index lead_merged_into_fkey_idx on lead (tenant_id, merged_into);
create index lead_name_idx on lead (tenant_id, name_key) where merged_into is null;
create index lead_status_idx on lead (tenant_id, status, id desc) where merged_into is null;
create index lead_owner_idx on lead (tenant_id, owner_member_id, id desc) where merged_into is null;
create index lead_updated_idx on lead (tenant_id, updated_at) where merged_into is null;
call client_table('lead');

create table lead_identity (
  agency_id  uuid        not null,
  tenant_id  uuid        not null,
  -- E.164, or an email address in lower case
  address    text        not null,
  kind       text        not null,
  lead_id    uuid        not null,
  -- the first of its kind, which is written to
  is_primary boolean     not null,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  constraint lead_identity_pkey primary key (tenant_id, address),
  constraint lead_identity_lead_fkey foreign key (tenant_id, lead_id) references lead (tenant_id, id),
  constraint lead_identity_kind_check check (kind in ('phone', 'email', 'whatsapp')),
  constraint lead_identity_address_check check (
    case kind when 'email' then address like '%@%' and address = lower(address) and length(address) <= 254
              else address ~ '^\+[1-9][0-9]{6,14}$' end)
);
create index lead_identity_lead_idx on lead_identity (tenant_id, lead_id);
create unique index lead_identity_primary_key on lead_identity (tenant_id, lead_id, kind) where is_primary;
call client_table('lead_identity');

create table lead_tag (
  agency_id  uuid        not null,
  tenant_id  uuid        not null,
  lead_id    uuid        not null,
  tag        text        not null,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  constraint lead_tag_pkey primary key (tenant_id, lead_id, tag),
  constraint lead_tag_lead_fkey foreign key (tenant_id, lead_id) references lead (tenant_id, id),
  constraint lead_tag_tag_check check (length(tag) between 1 and 50)
);
create index lead_tag_tag_idx on lead_tag (tenant_id, tag, lead_id);
call client_table('lead_tag');
