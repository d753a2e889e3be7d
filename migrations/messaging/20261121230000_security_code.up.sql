-- What a security code said is forgotten in the statement by which its message comes to where nothing is sent any more: it
-- has left, or never will, or nobody will know. The constraint says so again, whoever writes.

create function forget_security_code() returns trigger
  language plpgsql as $$
begin
  if new.status not in ('scheduled', 'queued', 'sending', 'ambiguous')
     or (new.status = 'ambiguous' and new.error_code is not distinct from 'outcome_unknown') then
    new.body := '(a code)';
  end if;
  return new;
end
$$;
create trigger message_forget_security_code before insert or update on message
  for each row when (new.purpose = 'security_code') execute function forget_security_code();

-- Not valid: no code was sent before this, and the table is not read through under its lock.
alter table message add constraint message_security_code_check check (
  purpose is distinct from 'security_code' or status in ('scheduled', 'queued', 'sending', 'ambiguous')
  or body = '(a code)') not valid;
