drop table sender;
drop table provider_endpoint;
delete from retention where table_name = 'provider_credential';
drop table provider_credential;
drop table provider_account;
drop table agency_data_key;
