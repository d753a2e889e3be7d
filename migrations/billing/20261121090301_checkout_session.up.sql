-- Checkout sessions of ours that were completed or ran out, and how far the Events API was read.

-- Class agency: a session for somebody new has no client until it is paid.
create table checkout_session (
  agency_id         uuid        not null,
  stripe_session_id text        not null,
  state             text        not null,
  -- the client it made or was for
  client_id         uuid,
  saga_id           uuid,
  sequence          bigint      not null default 0,
  created_at        timestamptz not null default now(),
  updated_at        timestamptz not null default now(),
  constraint checkout_session_pkey primary key (agency_id, stripe_session_id),
  constraint checkout_session_stripe_key unique (stripe_session_id),
  constraint checkout_session_state_check check (state in ('awaiting_payment', 'paid', 'payment_failed', 'expired')),
  -- a paid session has its client, and only such a one
  constraint checkout_session_paid_check check ((state = 'paid') = (saga_id is not null and client_id is not null))
);
call agency_table('checkout_session');

-- How far Stripe's list of events was read. One row.
create table stripe_event_cursor (
  singleton    boolean     not null default true,
  -- everything older than this, by Stripe's clock, was looked at
  read_through bigint      not null,
  -- a walk in hand: the newest event it began with, and the last one it looked at
  walk_newest  bigint,
  walk_after   text,
  created_at   timestamptz not null default now(),
  updated_at   timestamptz not null default now(),
  constraint stripe_event_cursor_pkey primary key (singleton),
  constraint stripe_event_cursor_singleton_check check (singleton),
  constraint stripe_event_cursor_walk_check check ((walk_newest is null) = (walk_after is null))
);
call infrastructure_table('stripe_event_cursor');
