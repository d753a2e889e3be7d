alter table saga_step reset (fillfactor);
alter table saga reset (fillfactor);
