-- What waits in the inbox waits as jobs again.
insert into job (id, kind, priority, run_at, payload, max_attempts, attempt, agency_id, tenant_id, traceparent)
select id, 'deliver_webhook', case when bulk then 2 else 1 end, due_at, jsonb_build_object('webhook_event_id', id), 40,
       least(tries, 39), agency_id, tenant_id, traceparent
from webhook_event where due_at is not null
on conflict do nothing;

drop table webhook_lease;

alter table webhook_event
  drop constraint webhook_event_sound_check,
  add constraint webhook_event_state_check check (state in ('received', 'processed', 'failed', 'dead')),
  add constraint webhook_event_processed_check
    check ((state = 'processed') = (processed_at is not null) and (state <> 'processed' or error is null)),
  add constraint webhook_event_failure_has_reason_check check (state not in ('failed', 'dead') or error is not null),
  add constraint webhook_event_tenant_needs_agency_check check (tenant_id is null or agency_id is not null),
  add constraint webhook_event_attempts_check check (attempts >= 0),
  add constraint webhook_event_length_check
    check (length(type) between 1 and 255 and length(content_type) <= 255 and octet_length(body) <= 2097152
           and coalesce(length(error), 0) <= 2000 and coalesce(length(outcome), 0) <= 2000),
  add constraint webhook_event_replays_check check (replays >= 0 and (replays = 0) = (replayed_at is null));
drop function webhook_event_is_sound;

drop index webhook_event_due_idx;
drop index webhook_event_waiting_idx;
drop index webhook_event_by_agency_idx;
drop index webhook_event_open_idx;
create index webhook_event_by_agency_idx on webhook_event (agency_id, id desc);
create index webhook_event_open_idx on webhook_event (state, agency_id, id desc) where state <> 'processed';

do $$
begin
  for slot in 0..15 loop
    execute format('alter table %I alter column body set compression default', 'webhook_event_slot_' || lpad(slot::text, 2, '0'));
  end loop;
  alter table webhook_event alter column body set compression default;
end
$$;

alter table webhook_event
  drop column tries,
  drop column bulk,
  drop column due_at;
