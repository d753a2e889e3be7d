drop table client_origin;
