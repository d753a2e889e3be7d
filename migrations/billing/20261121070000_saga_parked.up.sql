-- Parked sagas are few, wait for a person, and are counted whenever health is asked for.
-- mainstay:allow partial on a state that almost no row has, so that building it reads the table once and writes nothing
create index saga_parked_idx on saga (id) where state = 'parked';
