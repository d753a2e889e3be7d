-- What a saga waits for, and what people decide about a parked one (BIL-21, BIL-25).
alter table saga
  -- rises whenever something happened that a waiting saga may wait for: what came while it looked is not missed
  add column signals    bigint not null default 0,
  -- the last decision of an operator, by whom and when
  add column decision   text,
  add column decided_by text,
  add column decided_at timestamptz;
-- mainstay:allow the new check is wider than the old one; the table is scanned once
alter table saga
  drop constraint saga_state_check,
  drop constraint saga_ended_check;
-- mainstay:allow the new check is wider than the old one; the table is scanned once
alter table saga add constraint saga_state_check check (state in
    ('running', 'waiting', 'compensating', 'parked', 'completed', 'compensated', 'abandoned'));
-- mainstay:allow the new check is wider than the old one; the table is scanned once
alter table saga add constraint saga_ended_check check
    ((state in ('completed', 'compensated', 'abandoned')) = (ended_at is not null));
-- mainstay:allow every row satisfies it: the columns are new and null
alter table saga add constraint saga_decision_check check
    ((decision is null) = (decided_by is null) and (decision is null) = (decided_at is null)
     and (decision is null or decision in ('retry', 'resolve_done', 'resolve_not_done', 'abandon')));
-- mainstay:allow the new check is wider than the old one; the table is scanned once
alter table saga_step drop constraint saga_step_outcome_check;
-- mainstay:allow the new check is wider than the old one; the table is scanned once
alter table saga_step add constraint saga_step_outcome_check check
    (outcome in ('intended', 'waiting', 'done', 'refused', 'unknown'));
