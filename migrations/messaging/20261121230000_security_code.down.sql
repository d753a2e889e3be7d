alter table message drop constraint message_security_code_check;
drop trigger message_forget_security_code on message;
drop function forget_security_code();
