create function webhook_event_is_sound(
  state text, attempts integer, outcome text, error text, processed_at timestamptz, due_at timestamptz, tries integer,
  replays integer, replayed_at timestamptz, agency_id uuid, tenant_id uuid, type text, content_type text, body bytea
) returns boolean
  language plpgsql immutable parallel safe
as $$
begin
  return
    case state
      when 'received' then processed_at is null
      when 'processed' then processed_at is not null and error is null
      when 'failed' then processed_at is null and error is not null
      when 'dead' then processed_at is null and error is not null
      else false
    end
    and (due_at is null or state in ('received', 'failed'))
    and attempts >= 0 and tries >= 0
    and replays >= 0 and (replays = 0) = (replayed_at is null)
    and (tenant_id is null or agency_id is not null)
    and length(type) between 1 and 255 and length(content_type) <= 255 and octet_length(body) <= 2097152
    and coalesce(length(error), 0) <= 2000 and coalesce(length(outcome), 0) <= 2000;
end
$$;

alter table webhook_event
  drop constraint webhook_event_sound_check,
  add constraint webhook_event_sound_check check (
    webhook_event_is_sound(state, attempts, outcome, error, processed_at, due_at, tries, replays, replayed_at, agency_id,
                           tenant_id, type, content_type, body)),
  add constraint webhook_event_slot_check check (slot = webhook_slot(id));
drop function webhook_event_is_sound(
  uuid, smallint, text, integer, text, text, timestamptz, timestamptz, integer, integer, timestamptz, uuid, uuid, text,
  text, bytea);
