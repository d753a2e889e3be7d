create or replace function webhook_slot(id uuid) returns smallint
  language sql immutable strict parallel safe
  return (('x' || left(replace(id::text, '-', ''), 12))::bit(48)::bigint / 604800000 % 16)::smallint;
