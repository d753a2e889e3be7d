-- Webhooks that never came (INT-09): what an account's provider has is read again and again, from where it was read last.
alter table provider_endpoint
  -- what there was before this, by the world's clock, was looked for
  add column read_through timestamptz not null default now(),
  -- when it is read next; 'infinity' where there is nothing to read
  add column read_due_at  timestamptz not null default now();
