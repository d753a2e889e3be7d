drop trigger subscription_of_staying_client on subscription;
drop function subscription_of_staying_client();
drop table offboarding;
