drop table api_key_secret;
drop table api_key_permission;
drop table api_key;
