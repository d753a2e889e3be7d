//! The facts of other services: each is taken once, whatever it means here.

use mainstay_messaging::serve;
use mainstay_testkit::events;
use mainstay_types::ServiceName;

#[tokio::test(flavor = "multi_thread")]
async fn messaging_starts_answers_takes_every_event_once_and_stops() {
    events::starts_takes_every_event_once_and_stops(ServiceName::Messaging, |database, runtime| {
        serve(crate::world::settings(), database, runtime)
    })
    .await;
}
