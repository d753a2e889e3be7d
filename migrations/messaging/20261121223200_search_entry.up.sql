-- What conversations are found by: words of messages, names of leads, parts of addresses.
--
-- Row security lets a comparison that might leak use no index, and `@@` might. So the words stand in a table of the machinery,
-- whose worker sees every row, and each word begins with its tenant: another tenant's words are other keys of the index.

-- Words of a text, each after its tenant. What is longer than anybody types is cut, and the end of a very long text is left out.
create function tenant_words(tenant uuid, said text) returns tsvector
  language sql immutable strict parallel safe
  return (select array_to_tsvector(coalesce(
                   array_agg(replace(tenant::text, '-', '') || 'w' || left(word.lexeme, 100)), '{}'))
          from unnest(to_tsvector('simple'::regconfig, left(said, 10000))) word);

-- An address from each of its characters on, so that any part of it is the beginning of one of these.
create function tenant_address(tenant uuid, address text) returns tsvector
  language sql immutable strict parallel safe
  return (select array_to_tsvector(coalesce(
                   array_agg(replace(tenant::text, '-', '') || 'a' || substr(ltrim(address, '+'), place, 100)), '{}'))
          from generate_series(1, length(ltrim(address, '+'))) place);

-- All words of what is asked, the one that it ends with also as a beginning; or the part of an address, if one is given.
create function tenant_query(tenant uuid, asked text, part text) returns tsquery
  language sql immutable parallel safe
  return (
    with word as (
      select lexeme, right(regexp_replace(lower(asked), '[^[:alnum:]]+$', ''), length(lexeme)) = lexeme as is_last
      from unnest(to_tsvector('simple'::regconfig, left(asked, 1000)))
    ), term as (
      select replace(tenant::text, '-', '') || 'w' || left(lexeme, 100) as key, is_last from word
    ), said as (
      select string_agg(
        '''' || replace(replace(key, '\', '\\'), '''', '''''') || '''' || case when is_last then ':*' else '' end, ' & ') as words
      from term
    )
    select coalesce(concat_ws(' | ', '(' || words || ')',
      '''' || replace(replace(replace(tenant::text, '-', '') || 'a' || left(part, 100), '\', '\\'), '''', '''''') || ''':*'), '')::tsquery
    from said);

create table search_entry (
  agency_id       uuid        not null,
  tenant_id       uuid        not null,
  source          text        not null,
  -- the message, the lead, or the address
  key             text        not null,
  -- what is found by it: a conversation, or all of a lead's
  conversation_id uuid,
  lead_id         uuid,
  words           tsvector    not null,
  created_at      timestamptz not null default now(),
  updated_at      timestamptz not null default now(),
  constraint search_entry_pkey primary key (tenant_id, source, key),
  constraint search_entry_source_check check (source in ('message', 'lead', 'address')),
  constraint search_entry_found_check check (
    (source = 'message') = (conversation_id is not null) and (source = 'message') = (lead_id is null))
);

-- What there is already. Its owner sees rows of walled tables only while the wall does not bind it.
alter table message no force row level security;
alter table lead no force row level security;
alter table lead_identity no force row level security;
insert into search_entry (agency_id, tenant_id, source, key, conversation_id, words)
select agency_id, tenant_id, 'message', id::text, conversation_id, tenant_words(tenant_id, body) from message;
insert into search_entry (agency_id, tenant_id, source, key, lead_id, words)
select agency_id, tenant_id, 'lead', id::text, id, tenant_words(tenant_id, name) from lead where name is not null;
insert into search_entry (agency_id, tenant_id, source, key, lead_id, words)
select agency_id, tenant_id, 'address', address, lead_id, tenant_address(tenant_id, address) from lead_identity;
alter table message force row level security;
alter table lead force row level security;
alter table lead_identity force row level security;

-- Written at once: a search does not read through what waits to be sorted in.
create index search_entry_words_idx on search_entry using gin (words) with (fastupdate = off);
-- The roles that write leads write this with them.
call operator_table('search_entry', 'insert, select, update');

-- In the statement that says or changes it, whoever makes that: also the version before this one.
create function search_messages() returns trigger
  language plpgsql set search_path from current as $$
begin
  insert into search_entry (agency_id, tenant_id, source, key, conversation_id, words)
  select agency_id, tenant_id, 'message', id::text, conversation_id, tenant_words(tenant_id, body) from said;
  return null;
end
$$;
create trigger search_messages after insert on message
  referencing new table as said for each statement execute function search_messages();

create function search_lead() returns trigger
  language plpgsql set search_path from current as $$
begin
  insert into search_entry (agency_id, tenant_id, source, key, lead_id, words)
  values (new.agency_id, new.tenant_id, 'lead', new.id::text, new.id, tenant_words(new.tenant_id, new.name))
  on conflict (tenant_id, source, key) do update set words = excluded.words;
  return null;
end
$$;
create trigger search_new_lead after insert on lead
  for each row when (new.name is not null) execute function search_lead();
create trigger search_named_lead after update of name on lead
  for each row when (new.name is not null and new.name is distinct from old.name) execute function search_lead();

create function search_address() returns trigger
  language plpgsql set search_path from current as $$
begin
  insert into search_entry (agency_id, tenant_id, source, key, lead_id, words)
  values (new.agency_id, new.tenant_id, 'address', new.address, new.lead_id, tenant_address(new.tenant_id, new.address))
  on conflict (tenant_id, source, key) do update set lead_id = excluded.lead_id;
  return null;
end
$$;
create trigger search_new_address after insert on lead_identity
  for each row execute function search_address();
create trigger search_moved_address after update of lead_id on lead_identity
  for each row when (new.lead_id <> old.lead_id) execute function search_address();
