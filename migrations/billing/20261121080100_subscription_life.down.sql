drop table trial_claim;
alter table subscription
  drop constraint subscription_trial_days_check, drop constraint subscription_payment_check,
  drop constraint subscription_resumes_check, drop constraint subscription_grace_check,
  drop column cancel_at_period_end, drop column resumes_at, drop column grace_ends_at, drop column trial_days,
  drop column change_saga_id, drop column payment_intent_id, drop column payment_client_secret,
  drop column cancel_requested_at;
