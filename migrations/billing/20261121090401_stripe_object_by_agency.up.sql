-- Reconciliation goes through the agencies that have objects at Stripe, one after the other. Not built concurrently: that
-- waits for replicas, which wait for the lock under which this one migrates.
-- mainstay:allow one small row an object, so that it is built in moments
create index stripe_object_by_agency_idx on stripe_object (agency_id);
