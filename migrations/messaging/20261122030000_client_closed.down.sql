drop trigger client_sending_stays_closed on client_sending;
drop function client_sending_stays_closed();
alter table client_sending drop column closed_at;
