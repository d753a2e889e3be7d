//! Callbacks in every order, doubled, and before our own commit (MSG-20): what a provider says of a message only raises it.
//! Deliberately absent: signatures and the webhook inbox; the gateway's and integrations' tests have those.

use std::collections::HashMap;

use futures_util::future::join_all;
use mainstay_messaging::sending::Pace;
use mainstay_proto::messaging::v1 as proto;
use mainstay_types::{AttemptId, MessageId, ServiceName};
use serde_json::json;

use crate::carried::Providers;
use crate::sending::{client, lead, quick, reached, read, send};
use crate::world::{Agency, World};

/// How Twilio says it, and how far it raises a message.
const WORDS: [(&str, u8); 5] = [
    ("queued", 1),
    ("sent", 1),
    ("failed", 2),
    ("undelivered", 2),
    ("delivered", 3),
];

/// As many as are in hand at a provider at once.
const IN_HAND: usize = 60;

/// Every order of these.
fn orders<T: Clone>(of: &[T]) -> Vec<Vec<T>> {
    if of.is_empty() {
        return vec![Vec::new()];
    }
    let mut all = Vec::new();
    for place in 0..of.len() {
        let mut rest = of.to_vec();
        let first = rest.remove(place);
        for mut order in orders(&rest) {
            order.insert(0, first.clone());
            all.push(order);
        }
    }
    all
}

/// How far a status is raised; more than nothing once a provider has it.
fn height(status: proto::MessageStatus) -> u8 {
    match status {
        proto::MessageStatus::Sent => 1,
        proto::MessageStatus::Failed | proto::MessageStatus::Undelivered => 2,
        proto::MessageStatus::Delivered => 3,
        proto::MessageStatus::Scheduled
        | proto::MessageStatus::Queued
        | proto::MessageStatus::Sending => 0,
        other => panic!("{other:?} does not belong here"),
    }
}

/// A message of which its provider tells.
struct Told {
    id: String,
    attempt: AttemptId,
    sid: String,
    words: Vec<&'static str>,
    /// So many of them come before we have written that it was taken.
    early: usize,
}

impl Told {
    /// Says some of the words, each twice: in a row, or once more when all were said.
    async fn tell(&self, agency: &Agency<'_>, words: &[&'static str]) {
        let in_a_row = self.early.is_multiple_of(2);
        let doubled: Vec<_> = match in_a_row {
            true => words.iter().flat_map(|word| [*word, *word]).collect(),
            false => [words, words].concat(),
        };
        for word in doubled {
            let code = match word {
                "failed" | "undelivered" => "&ErrorCode=30003",
                _ => "",
            };
            let body = format!(
                "MessageSid={}&MessageStatus={word}{code}&MainstayAttempt={}",
                self.sid, self.attempt
            );
            let request = proto::HandleProviderEventRequest {
                agency_id: agency.id.to_string(),
                client_id: None,
                provider: "twilio".to_owned(),
                account_id: None,
                event_key: "of no matter here".to_owned(),
                r#type: "message.status".to_owned(),
                content_type: "application/x-www-form-urlencoded".to_owned(),
                body: body.into_bytes(),
                form_endpoint_id: None,
                received_at: None,
                webhook_event_id: mainstay_types::WebhookEventId::generate().to_string(),
            };
            let channel = agency
                .world
                .stage
                .channel(ServiceName::Integrations, ServiceName::Messaging);
            let mut door =
                proto::provider_event_service_client::ProviderEventServiceClient::new(channel);
            let heard = door.handle_provider_event(request).await;
            heard.unwrap_or_else(|refused| panic!("{word}: {refused:?}"));
        }
    }

    /// It only rose, and stands at the most that was said; of equals, at the first.
    async fn check(&self, agency: &Agency<'_>) {
        let message = read(agency, &self.id).await;
        let words = &self.words;
        let mut last = 0;
        for event in &message.history {
            let now = height(event.status());
            assert!(now >= last, "{words:?}: {:?}", message.history);
            last = now;
        }
        let failed = words
            .iter()
            .find(|word| matches!(**word, "failed" | "undelivered"));
        let wanted = match (words.contains(&"delivered"), failed) {
            (true, _) => proto::MessageStatus::Delivered,
            (false, Some(&"failed")) => proto::MessageStatus::Failed,
            (false, Some(_)) => proto::MessageStatus::Undelivered,
            (false, None) => proto::MessageStatus::Sent,
        };
        assert_eq!(message.status(), wanted, "{words:?}, {} early", self.early);
        let code = message.error_code.as_deref();
        let fails = wanted != proto::MessageStatus::Delivered && failed.is_some();
        assert_eq!(code, fails.then_some("30003"), "{words:?}");
        assert_eq!(message.attempts(), 1, "{words:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn callbacks_in_every_order_doubled_and_before_our_commit_only_raise_a_message() {
    let providers = Providers::start().await;
    // Nobody runs out of patience while Twilio holds its answers.
    let slow = Pace {
        patience: std::time::Duration::from_secs(25),
        ..quick()
    };
    let world = World::sending(&providers, slow).await;
    let agency = client(&world, &providers, 1000.0).await;
    let words = WORDS.map(|(word, _)| word);
    let mut all = orders(&words);
    // Without the word that wins over all, too.
    let without: Vec<_> = words
        .into_iter()
        .filter(|word| *word != "delivered")
        .collect();
    all.extend(orders(&without));
    for (round, chunk) in all.chunks(IN_HAND).enumerate() {
        one_round(&providers, &agency, round, chunk).await;
    }
    let left = "select count(*) from messaging.send_queue";
    assert_eq!(world.postgres.count(left).await, 0);
    let ledger = providers.ledger("twilio").await;
    let there = ledger["messages"].as_array().expect("messages");
    assert_eq!(there.len(), all.len(), "each left once");
}

/// Twilio takes these messages and holds its answers; part of what it says of them comes before, the rest after.
async fn one_round(
    providers: &Providers,
    agency: &Agency<'_>,
    round: usize,
    orders: &[Vec<&'static str>],
) {
    let world = agency.world;
    providers.fault(json!({"provider": "twilio", "operation": "messages.create", "kind": "timeout_after_effect", "value": 60})).await;
    providers
        .fault(json!({"provider": "twilio", "operation": "*", "kind": "never_webhook"}))
        .await;
    let later = prost_types::Timestamp {
        seconds: world.clock.now().timestamp() + 3600,
        nanos: 0,
    };
    let made = join_all((0..orders.len()).map(async |number| {
        let phone = format!("+1512{:07}", 5_600_000 + round * 1000 + number);
        let lead = lead(agency, &phone).await;
        let body = format!("{round}/{number}");
        let made = send(agency, &lead, &body, Some(later)).await;
        (body, made.expect("taken").id.expect("an id"))
    }))
    .await;
    // All at once: a batch that is held lets nothing follow it.
    world
        .postgres
        .execute("update messaging.send_queue set due_at = '2020-01-01'")
        .await;
    let count = i64::try_from(orders.len()).expect("few");
    let sending = "select count(*) from messaging.message_attempt where state = 'started'";
    reached(world, sending, count).await;
    let mut looks = crate::sending::looks();
    let sids = loop {
        assert!(looks.again().await, "the provider never has them");
        let ledger = providers.ledger("twilio").await;
        let there = ledger["messages"].as_array().expect("messages");
        let sids: HashMap<String, String> = there
            .iter()
            .map(|one| {
                let text = |name: &str| one[name].as_str().unwrap_or_default().to_owned();
                (text("body"), text("sid"))
            })
            .collect();
        if made.iter().all(|(body, _)| sids.contains_key(body)) {
            break sids;
        }
    };
    let mut admin = world.postgres.admin().await;
    let attempts: Vec<(uuid::Uuid, uuid::Uuid)> =
        sqlx::query_as("select message_id, id from messaging.message_attempt")
            .fetch_all(&mut admin)
            .await
            .expect("attempts");
    let attempts: HashMap<_, _> = attempts.into_iter().collect();
    let told: Vec<Told> = made
        .into_iter()
        .zip(orders)
        .enumerate()
        .map(|(number, ((body, id), words))| {
            let message: MessageId = id.parse().expect("an id");
            Told {
                attempt: AttemptId::from_uuid(attempts[&message.uuid()]),
                sid: sids[&body].clone(),
                words: words.clone(),
                early: number % (words.len() + 1),
                id,
            }
        })
        .collect();
    let early = told
        .iter()
        .map(|one| one.tell(agency, &one.words[..one.early]));
    join_all(early).await;
    // Now Twilio answers, and what we know is written.
    providers.mend().await;
    let open = "select count(*) from messaging.send_queue";
    reached(world, open, 0).await;
    let rest = told
        .iter()
        .map(|one| one.tell(agency, &one.words[one.early..]));
    join_all(rest).await;
    for one in &told {
        one.check(agency).await;
    }
}
