drop table canned_reply;
