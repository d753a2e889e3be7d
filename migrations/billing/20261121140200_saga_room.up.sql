-- A saga's row is written at each step, and no step changes what an index holds: with room beside it on its page no index
-- is written either.
alter table saga set (fillfactor = 60);
alter table saga_step set (fillfactor = 80);
