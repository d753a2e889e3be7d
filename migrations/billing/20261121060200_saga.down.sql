delete from retention where table_name in ('saga', 'stripe_event_inbox');
drop table stripe_event_inbox;
drop table saga_step;
drop table saga;
