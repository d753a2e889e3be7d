-- Conversations as an inbox: whose each is, what it is about, when it ended, what they said of it, and whether it is put away.

alter table conversation
  -- a member of the agency; identity keeps those
  add column assigned_to     uuid,
  -- none for those that were closed before this was kept
  add column closed_at       timestamptz,
  -- when they were asked how it was
  add column rating_asked_at timestamptz,
  add column rating          smallint,
  -- since when nobody sees it; what was said stays
  add column deleted_at      timestamptz,
  add constraint conversation_closed_at_check check (closed_at is null or state = 'closed'),
  -- From 1 to 5, and only of whoever was asked.
  add constraint conversation_rating_check check (rating is null or (rating between 1 and 5 and rating_asked_at is not null)),
  add constraint conversation_deleted_at_check check (deleted_at is null or state = 'closed');

create table conversation_label (
  agency_id       uuid        not null,
  tenant_id       uuid        not null,
  conversation_id uuid        not null,
  label           text        not null,
  created_at      timestamptz not null default now(),
  updated_at      timestamptz not null default now(),
  constraint conversation_label_pkey primary key (tenant_id, conversation_id, label),
  constraint conversation_label_conversation_fkey foreign key (tenant_id, conversation_id) references conversation (tenant_id, id),
  constraint conversation_label_label_check check (length(label) between 1 and 50 and label = lower(label))
);
create index conversation_label_label_idx on conversation_label (tenant_id, label, conversation_id);
call client_table('conversation_label');
