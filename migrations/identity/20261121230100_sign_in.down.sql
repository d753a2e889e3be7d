delete from retention where table_name in ('sign_in_challenge', 'sign_in_limit', 'sign_in_session', 'refresh_token');
drop table refresh_token;
drop table sign_in_session;
drop table sign_in_limit;
drop table sign_in_challenge;
drop table sign_in_address;
