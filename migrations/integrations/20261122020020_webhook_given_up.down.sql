alter table webhook_event drop column given_up;
