drop table stripe_event_cursor;
drop table checkout_session;
