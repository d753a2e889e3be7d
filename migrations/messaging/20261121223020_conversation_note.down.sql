drop table conversation_note;
