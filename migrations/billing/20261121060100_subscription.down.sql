drop table stripe_object;
drop table invoice;
drop table subscription;
drop table billing_account;
