drop index conversation_assigned_idx;
