//! Escalation on real PostgreSQL, behind its real stack, with the real identity beside it, called as gateway and other services
//! call it.
//! Deliberately absent: messaging. What it is told to send is written down here.

mod alerts;
mod business_hours;
mod claims;
mod ladders;
mod world;

use mainstay_escalation::serve;
use mainstay_testkit::events;
use mainstay_types::ServiceName;

#[tokio::test(flavor = "multi_thread")]
async fn escalation_starts_answers_takes_every_event_once_and_stops() {
    events::starts_takes_every_event_once_and_stops(
        ServiceName::Escalation,
        |database, runtime| serve(world::settings(), database, runtime),
    )
    .await;
}
