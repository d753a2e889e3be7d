drop table agency_do_not_contact;
drop table client_do_not_contact;
drop table consent_event;
drop table consent_standing;
