drop table form_endpoint_token;
drop table form_endpoint;
