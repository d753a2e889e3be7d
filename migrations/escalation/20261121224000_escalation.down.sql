drop table departed_member;
drop table escalation_notice;
drop table escalation_event;
drop table escalation_watch;
drop table escalation;
drop function watch_escalation;
drop table ladder;
