alter table provider_endpoint drop column read_through, drop column read_due_at;
