drop index saga_parked_idx;
