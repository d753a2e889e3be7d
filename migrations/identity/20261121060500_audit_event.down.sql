drop table audit_image;
drop table audit_event;
drop function refuse_audit_change();
