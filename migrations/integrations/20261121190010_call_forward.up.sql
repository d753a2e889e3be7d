-- Where calls to a number are put through to; none: they are turned away as busy.
alter table sender
  add column forward_calls_to text,
  add constraint sender_forward_check check (
    forward_calls_to is null
    or (channel in ('sms', 'voice') and forward_calls_to ~ '^\+[1-9][0-9]{6,14}$' and forward_calls_to <> address_key));
