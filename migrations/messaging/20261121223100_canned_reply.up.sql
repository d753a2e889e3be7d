-- Texts that a client's people send again and again, each under a word of its own.

create table canned_reply (
  agency_id  uuid        not null,
  tenant_id  uuid        not null,
  id         uuid        not null,
  shortcut   text        not null,
  -- a template; it sees the lead
  body       text        not null,
  revision   bigint      not null default 1,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  constraint canned_reply_pkey primary key (tenant_id, id),
  constraint canned_reply_shortcut_key unique (tenant_id, shortcut),
  constraint canned_reply_shortcut_check check (shortcut ~ '^[a-z][a-z0-9_]{0,49}$'),
  constraint canned_reply_body_check check (length(body) between 1 and 10000)
);
call client_table('canned_reply');
