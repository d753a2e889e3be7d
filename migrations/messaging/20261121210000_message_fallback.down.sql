drop table message_fallback;
