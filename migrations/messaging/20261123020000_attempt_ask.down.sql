alter table message_attempt drop column ask_at, drop column asks;
