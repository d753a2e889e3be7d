drop trigger sender_address_is_free on sender;
drop function sender_address_is_free();
alter table sender
  drop constraint sender_parked_check,
  drop column heard_at,
  drop column parked_at;
