alter table saga_step drop constraint saga_step_outcome_check;
update saga_step set outcome = 'intended' where outcome = 'waiting';
alter table saga_step add constraint saga_step_outcome_check check (outcome in ('intended', 'done', 'refused', 'unknown'));
alter table saga drop constraint saga_decision_check, drop constraint saga_state_check, drop constraint saga_ended_check;
update saga set state = 'parked', ended_at = null where state = 'abandoned';
alter table saga add constraint saga_state_check check (state in
    ('running', 'waiting', 'compensating', 'parked', 'completed', 'compensated'));
alter table saga add constraint saga_ended_check check ((state in ('completed', 'compensated')) = (ended_at is not null));
alter table saga drop column signals, drop column decision, drop column decided_by, drop column decided_at;
