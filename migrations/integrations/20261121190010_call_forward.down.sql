alter table sender drop constraint sender_forward_check, drop column forward_calls_to;
