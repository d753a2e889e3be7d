-- Numbers and addresses of clients that have left (BIL-14, INT-22): parked until nobody has written to them for a while, so
-- that what still comes in reaches nobody else.

alter table sender
  add column parked_at timestamptz,
  -- when somebody last wrote to it or rang it while it was parked
  add column heard_at timestamptz,
  add constraint sender_parked_check check (parked_at is null or (state = 'disabled' and client_id is not null)) not valid;

-- A parked address has one receiver as well. Looked at after the row stands: whoever waited for the one that was parked
-- meanwhile sees that it is.
create function sender_address_is_free() returns trigger
  language plpgsql set search_path from current as $$
begin
  if exists (select from sender s where s.agency_id = new.agency_id and s.channel = new.channel
             and s.address_key = new.address_key and s.id <> new.id and s.parked_at is not null) then
    raise exception 'the address is parked'
      using errcode = '23514', constraint = 'sender_address_is_free', table = 'sender';
  end if;
  return null;
end
$$;
create trigger sender_address_is_free after insert or update on sender
  for each row when (new.state = 'active') execute function sender_address_is_free();
