-- Whether a webhook was given up and has not had its effect since: that it has one after all is told to whoever was alerted.
alter table webhook_event add column given_up boolean not null default false;
