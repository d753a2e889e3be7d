-- What people of ours write about a conversation to each other. Never sent to anybody: nothing that sends reads this.

create table conversation_note (
  agency_id       uuid        not null,
  tenant_id       uuid        not null,
  id              uuid        not null,
  conversation_id uuid        not null,
  -- who wrote it: mem_…, key_…
  author          text        not null,
  body            text        not null,
  created_at      timestamptz not null default now(),
  updated_at      timestamptz not null default now(),
  constraint conversation_note_pkey primary key (tenant_id, id),
  constraint conversation_note_conversation_fkey foreign key (tenant_id, conversation_id) references conversation (tenant_id, id),
  constraint conversation_note_body_check check (length(body) between 1 and 5000)
);
create index conversation_note_conversation_idx on conversation_note (tenant_id, conversation_id, id desc);
call client_table('conversation_note');
