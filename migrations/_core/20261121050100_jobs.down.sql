delete from retention where table_name = 'job_dead_letter';
drop table job_dead_letter;
drop table job_lease;
drop sequence job_fence;
drop table job;
