drop table payment_method;
drop table dispute;
drop table refund;
drop table payment;
alter table billing_account drop column default_payment_method_id, drop column delinquent, drop column sequence;
alter table stripe_object drop column revision;
