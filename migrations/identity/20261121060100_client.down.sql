drop table client;
drop function refuse_client_delete();
