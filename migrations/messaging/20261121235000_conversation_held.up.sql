-- mainstay:no-transaction
create index concurrently conversation_held_idx on conversation (agency_id, assigned_to, taken_over_by) where state = 'open';
