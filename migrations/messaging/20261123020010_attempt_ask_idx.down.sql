drop index message_attempt_ask_idx;
