drop table form_submission;
