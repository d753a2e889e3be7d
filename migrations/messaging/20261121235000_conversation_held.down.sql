drop index conversation_held_idx;
