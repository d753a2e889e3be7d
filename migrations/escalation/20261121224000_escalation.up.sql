-- Calls for people: who is called, who has it, what became of it. That an open one has a next step or an owner is a check.

-- Who is called for a client. Without a row it is the ladder that the program brings along.
create table ladder (
  agency_id  uuid        not null,
  tenant_id  uuid        not null,
  -- steps and rounds, as they were given
  definition jsonb       not null,
  revision   bigint      not null default 1,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  constraint ladder_pkey primary key (tenant_id)
);
call client_table('ladder');

create table escalation (
  agency_id       uuid        not null,
  tenant_id       uuid        not null,
  id              uuid        not null,
  cause           text        not null,
  subject         text        not null,
  lead_id         uuid,
  conversation_id uuid,
  summary         text        not null,
  priority        text        not null default 'normal',
  state           text        not null default 'pending',
  raised_by       text        not null,
  occurrences     bigint      not null default 1,
  -- the ladder it began with
  ladder          jsonb       not null,
  -- what comes next on it, and when
  step            int         not null default 0,
  round           int         not null default 1,
  next_step_at    timestamptz,
  claimed_by      uuid,
  -- their name then
  claimed_by_name text,
  claimed_at      timestamptz,
  -- rises with each claim, each release and each time it is given on: who was told of one is not told of another
  fence           bigint      not null default 0,
  resolution      text,
  ended_at        timestamptz,
  -- the trace of what it was raised for
  traceparent     text,
  revision        bigint      not null default 1,
  created_at      timestamptz not null default now(),
  updated_at      timestamptz not null default now(),
  constraint escalation_pkey primary key (tenant_id, id),
  constraint escalation_cause_check check (cause in ('manual', 'hand_over', 'callback_requested', 'keyword', 'automation_failed',
    'dispute', 'missed_sla')),
  constraint escalation_priority_check check (priority in ('low', 'normal', 'high', 'urgent')),
  constraint escalation_length_check check (length(subject) between 1 and 200 and length(summary) between 1 and 2000
    and length(resolution) <= 500),
  -- Nobody is left waiting: what is open has a next step or an owner, and nothing else has either.
  constraint escalation_state_check check (
    case state
      when 'pending' then next_step_at is not null and claimed_by is null and ended_at is null
      when 'claimed' then next_step_at is null and claimed_by is not null and ended_at is null
      when 'resolved' then next_step_at is null and ended_at is not null
      when 'expired' then next_step_at is null and claimed_by is null and ended_at is not null
      else false
    end),
  constraint escalation_claim_check check ((claimed_by is null) = (claimed_by_name is null)
    and (claimed_by is null) = (claimed_at is null)),
  constraint escalation_counts_check check (occurrences > 0 and step >= 0 and round > 0 and fence >= 0)
);
-- One open call for one thing.
create unique index escalation_open_key on escalation (tenant_id, subject, cause) where state in ('pending', 'claimed');
create index escalation_list_idx on escalation (agency_id, id desc);
create index escalation_due_idx on escalation (next_step_at) where state = 'pending';
create index escalation_claimed_idx on escalation (agency_id, claimed_by) where state = 'claimed';
call client_table('escalation');

-- Every open escalation there is, for the auditor, who belongs to no tenant. Written with it, whoever writes it.
create table escalation_watch (
  id         uuid        not null,
  agency_id  uuid        not null,
  tenant_id  uuid        not null,
  created_at timestamptz not null default now(),
  constraint escalation_watch_pkey primary key (id)
);
call operator_table('escalation_watch', 'insert');

create function watch_escalation() returns trigger
  language plpgsql as $$
begin
  insert into escalation_watch (id, agency_id, tenant_id) values (new.id, new.agency_id, new.tenant_id);
  return null;
end
$$;
create trigger watch_escalation after insert on escalation for each row execute function watch_escalation();

-- What happened to it.
create table escalation_event (
  agency_id     uuid        not null,
  tenant_id     uuid        not null,
  id            uuid        not null,
  escalation_id uuid        not null,
  kind          text        not null,
  actor         text        not null,
  member_id     uuid,
  reason        text,
  created_at    timestamptz not null default now(),
  constraint escalation_event_pkey primary key (tenant_id, id),
  constraint escalation_event_escalation_fkey foreign key (tenant_id, escalation_id) references escalation (tenant_id, id),
  constraint escalation_event_kind_check check (kind in ('raised', 'again', 'called', 'unreachable', 'claimed', 'released',
    'reassigned', 'resolved', 'expired', 'found'))
);
create index escalation_event_escalation_idx on escalation_event (tenant_id, escalation_id, id);
call client_table('escalation_event');
call append_only('escalation_event');

-- What people are told, each thing once: that they are called, that they have it, who has it.
create table escalation_notice (
  agency_id     uuid        not null,
  tenant_id     uuid        not null,
  id            uuid        not null,
  escalation_id uuid        not null,
  member_id     uuid        not null,
  kind          text        not null,
  channel       text        not null,
  -- which call, or which claim: the same is not told twice
  occasion      text        not null,
  state         text        not null default 'pending',
  message_id    uuid,
  reason        text,
  created_at    timestamptz not null default now(),
  updated_at    timestamptz not null default now(),
  constraint escalation_notice_pkey primary key (tenant_id, id),
  constraint escalation_notice_once_key unique (tenant_id, escalation_id, member_id, channel, kind, occasion),
  constraint escalation_notice_escalation_fkey foreign key (tenant_id, escalation_id) references escalation (tenant_id, id),
  constraint escalation_notice_kind_check check (kind in ('call', 'yours', 'taken', 'expired')),
  constraint escalation_notice_channel_check check (channel in ('sms', 'email')),
  constraint escalation_notice_state_check check (
    case state when 'pending' then message_id is null when 'telling' then message_id is null
               when 'told' then message_id is not null
               when 'refused' then reason is not null else false end)
);
call client_table('escalation_notice');

-- Members who have left: none of them takes anything any more, whatever is under way.
create table departed_member (
  agency_id  uuid        not null,
  member_id  uuid        not null,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  constraint departed_member_pkey primary key (agency_id, member_id)
);
call agency_table('departed_member');
