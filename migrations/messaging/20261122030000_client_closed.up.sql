-- A client that has left: nothing is sent for it and nothing starts, for ever.

alter table client_sending add column closed_at timestamptz;

create function client_sending_stays_closed() returns trigger
  language plpgsql as $$
begin
  raise exception 'a client that has left does not come back'
    using errcode = '23514', constraint = 'client_sending_stays_closed', table = 'client_sending';
end
$$;
create trigger client_sending_stays_closed before update on client_sending
  for each row when (old.closed_at is not null and new.closed_at is distinct from old.closed_at)
  execute function client_sending_stays_closed();
