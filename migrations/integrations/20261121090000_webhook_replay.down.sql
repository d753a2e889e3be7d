drop table webhook_replay;
delete from retention where table_name = 'webhook_replay';
alter table webhook_event
  drop constraint webhook_event_replays_check,
  drop column replayed_at,
  drop column replays;
