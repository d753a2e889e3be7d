alter table saga_step
  drop constraint saga_step_sound_check,
  add constraint saga_step_direction_check check (direction in ('do', 'undo')),
  add constraint saga_step_outcome_check check (outcome in ('intended', 'waiting', 'done', 'refused', 'unknown')),
  add constraint saga_step_ended_check check ((outcome in ('done', 'refused')) = (ended_at is not null));

alter table saga
  drop constraint saga_sound_check,
  add constraint saga_state_check check (state in
    ('running', 'waiting', 'compensating', 'parked', 'completed', 'compensated', 'abandoned')),
  add constraint saga_ended_check
    check ((state in ('completed', 'compensated', 'abandoned')) = (ended_at is not null)),
  add constraint saga_direction_check check (direction in ('do', 'undo')),
  add constraint saga_refusal_check check (direction = 'do' or refusal is not null),
  add constraint saga_lease_check check ((lease_owner is null) = (leased_until is null)),
  add constraint saga_decision_check check (
    (decision is null) = (decided_by is null) and (decision is null) = (decided_at is null)
    and (decision is null or decision in ('retry', 'resolve_done', 'resolve_not_done', 'abandon')));

drop function saga_step_is_sound;
drop function saga_is_sound;
