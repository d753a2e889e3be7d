drop table client_sending;
