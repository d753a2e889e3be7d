//! What every adapter of a provider has to hold, tried on each against its simulator: taken, busy, away, failing, silent,
//! refused for good, and what it tells later. Where providers differ, the table at the top says how.
//! Deliberately absent: requests and answers word for word. The official libraries hold the simulators to those.

use mainstay_proto::messaging::v1 as proto;
use serde_json::{Value, json};

use crate::carried::Providers;
use crate::sending::{OURS, beyond, quick, reached, read, until};
use crate::world::{Agency, World};

/// What can be learned of a request that was not answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Doubt {
    /// The provider lists what it has.
    Listed,
    /// Said again under its key it is the same.
    SameAgain,
    /// Nothing; only its own events tell.
    Told,
}

/// An adapter.
struct Adapter {
    provider: &'static str,
    /// What sending is called among the simulator's faults.
    operation: &'static str,
    channel: proto::Channel,
    doubt: Doubt,
    /// The status that refuses a message for good.
    refusal: u16,
}

const TWILIO: Adapter = Adapter {
    provider: "twilio",
    operation: "messages.create",
    channel: proto::Channel::Sms,
    doubt: Doubt::Listed,
    refusal: 400,
};
const RESEND: Adapter = Adapter {
    provider: "resend",
    operation: "emails.send",
    channel: proto::Channel::Email,
    doubt: Doubt::SameAgain,
    refusal: 422,
};
const SENDGRID: Adapter = Adapter {
    provider: "sendgrid",
    operation: "mail.send",
    channel: proto::Channel::Email,
    doubt: Doubt::Told,
    refusal: 400,
};

/// A client that sends over these providers, in this order.
async fn client<'w>(world: &'w World, providers: &Providers, adapters: &[&Adapter]) -> Agency<'w> {
    let agency = world.agency("senders").await;
    for adapter in adapters {
        let account = match adapter.channel {
            proto::Channel::Sms => providers.number(OURS, 1000.0).await,
            _ => {
                let from = format!("Acme <hello@{}.test>", adapter.provider);
                providers.mail(adapter.provider, &from).await
            }
        };
        world.senders.add(agency.id, agency.client, account);
    }
    let sold = agency.apply(agency.saga().sells("messages", 1, 1)).await;
    sold.expect("messages are sold");
    agency
}

/// One adapter with a client of its own.
struct Suite<'w> {
    adapter: &'static Adapter,
    providers: &'w Providers,
    agency: Agency<'w>,
}

impl Suite<'_> {
    async fn fault(&self, kind: &str, more: Value) {
        let mut fault = json!({"provider": self.adapter.provider, "operation": self.adapter.operation, "kind": kind});
        for (name, value) in more.as_object().into_iter().flatten() {
            fault[name] = value.clone();
        }
        self.providers.fault(fault).await;
    }

    /// The provider tells nothing by itself from now on.
    async fn tells_nothing(&self) {
        let fault =
            json!({"provider": self.adapter.provider, "operation": "*", "kind": "never_webhook"});
        self.providers.fault(fault).await;
    }

    /// Somebody's address, told from others by its number.
    fn address(&self, number: u32) -> String {
        match self.adapter.channel {
            proto::Channel::Sms => format!("+1512{:07}", 5_700_000 + number),
            _ => format!("delivered+{number}@resend.dev"),
        }
    }

    /// A message to somebody who signed.
    async fn send(&self, to: &str, purpose: proto::Purpose) -> String {
        let client_id = self.agency.client.to_string();
        let mail = self.adapter.channel == proto::Channel::Email;
        let lead = proto::CreateLeadRequest {
            client_id: client_id.clone(),
            phone: (!mail).then(|| to.to_owned()),
            email: mail.then(|| to.to_owned()),
            time_zone: Some("America/Chicago".to_owned()),
            consents: vec![proto::LeadConsentGiven {
                channel: Some(self.adapter.channel.into()),
                basis: Some(proto::ConsentBasis::ExpressWritten.into()),
                source: Some("form:quote".to_owned()),
                ..Default::default()
            }],
            ..Default::default()
        };
        let lead = self.agency.leads().create_lead(lead).await.expect("a lead");
        let message = proto::CreateMessageRequest {
            client_id,
            lead_id: lead.into_inner().id,
            channel: Some(self.adapter.channel.into()),
            subject: mail.then(|| "About your roof".to_owned()),
            body: Some(format!("for {to}")),
            purpose: Some(purpose.into()),
            ..Default::default()
        };
        let made = self.agency.messages().create_message(message).await;
        made.expect("taken").into_inner().id.expect("an id")
    }

    async fn until(&self, id: &str, status: proto::MessageStatus) -> proto::Message {
        until(&self.agency, id, status).await
    }

    /// How often the provider has the message to this address.
    async fn there(&self, to: &str) -> usize {
        let (ledger, list) = match self.adapter.channel {
            proto::Channel::Sms => ("twilio", "messages"),
            _ => ("email", "emails"),
        };
        let ledger = self.providers.ledger(ledger).await;
        let all = ledger[list].as_array().expect("a list").iter();
        all.filter(|one| {
            one["to"] == to
                || one["to"]
                    .as_array()
                    .is_some_and(|all| all.contains(&json!(to)))
        })
        .count()
    }

    async fn count(&self, sql: &str) -> i64 {
        self.agency.world.postgres.count(sql).await
    }

    async fn taken_and_told(&self) {
        let to = self.address(1);
        let id = self.send(&to, proto::Purpose::Transactional).await;
        let message = self.until(&id, proto::MessageStatus::Delivered).await;
        assert_eq!((message.attempts(), self.there(&to).await), (1, 1));
    }

    async fn busy_is_tried_again(&self) {
        self.fault("status", json!({"value": 429, "count": 2}))
            .await;
        let to = self.address(2);
        let id = self.send(&to, proto::Purpose::Marketing).await;
        let message = self.until(&id, proto::MessageStatus::Delivered).await;
        assert_eq!(self.there(&to).await, 1);
        assert_eq!(
            message.permits.len(),
            usize::try_from(message.attempts()).expect("few")
        );
        self.providers.mend().await;
    }

    async fn away_is_tried_again(&self) {
        self.providers.door.shut().await;
        let to = self.address(3);
        let id = self.send(&to, proto::Purpose::Marketing).await;
        let refused = "select count(*) from messaging.message_attempt where state = 'refused' and detail ilike '%connect%'";
        beyond(self.agency.world, refused, 0).await;
        let waiting = read(&self.agency, &id).await;
        assert!(
            matches!(
                waiting.status(),
                proto::MessageStatus::Queued | proto::MessageStatus::Sending
            ),
            "{waiting:?}"
        );
        self.providers.door.open().await;
        self.until(&id, proto::MessageStatus::Delivered).await;
        assert_eq!(self.there(&to).await, 1);
    }

    /// Whether a failing server has done it is not known, and it is not taken for a refusal.
    async fn failing_leaves_doubt(&self) {
        // More than are repeated without asking.
        self.fault("status", json!({"value": 503, "count": 4}))
            .await;
        let to = self.address(4);
        let id = self.send(&to, proto::Purpose::Transactional).await;
        self.until(&id, proto::MessageStatus::Delivered).await;
        assert_eq!(self.there(&to).await, 1);
        let doubt = "select count(*) from messaging.message_event where status = 'ambiguous'";
        assert!(self.count(doubt).await > 0, "it was never in doubt");
        self.providers.mend().await;
    }

    async fn silent_is_found_out(&self) {
        self.tells_nothing().await;
        self.fault("timeout_after_effect", json!({"value": 5, "count": 1}))
            .await;
        let to = self.address(5);
        // Rather not at all than twice, where nobody can tell.
        let id = self.send(&to, proto::Purpose::Conversational).await;
        match self.adapter.doubt {
            // As the list says it stands.
            Doubt::Listed => {
                let message = self.until(&id, proto::MessageStatus::Delivered).await;
                assert_eq!(message.attempts(), 1);
            }
            Doubt::SameAgain => {
                self.until(&id, proto::MessageStatus::Sent).await;
            }
            Doubt::Told => {
                self.until(&id, proto::MessageStatus::Ambiguous).await;
                let stopped =
                    "select count(*) from messaging.message_attempt where code = 'outcome_unknown'";
                reached(self.agency.world, stopped, 1).await;
                let message = read(&self.agency, &id).await;
                assert_eq!(
                    (message.status(), message.attempts()),
                    (proto::MessageStatus::Ambiguous, 1)
                );
            }
        }
        assert_eq!(self.there(&to).await, 1);
        self.providers.mend().await;
    }

    /// Its own word ends the doubt, without a look.
    async fn what_it_tells_ends_the_doubt(&self) {
        self.fault("timeout_after_effect", json!({"value": 5, "count": 1}))
            .await;
        let to = self.address(6);
        let id = self.send(&to, proto::Purpose::Conversational).await;
        self.until(&id, proto::MessageStatus::Delivered).await;
        assert_eq!(self.there(&to).await, 1);
        self.providers.mend().await;
    }

    async fn refused_for_good_fails(&self) {
        let status = self.adapter.refusal;
        self.fault("status", json!({"value": status, "count": 1}))
            .await;
        let to = self.address(7);
        let id = self.send(&to, proto::Purpose::Transactional).await;
        let message = self.until(&id, proto::MessageStatus::Failed).await;
        assert_eq!((message.attempts(), self.there(&to).await), (1, 0));
        let suppressed = "select count(*) from messaging.address_suppression";
        assert_eq!(self.count(suppressed).await, 0, "the address may be good");
        self.providers.mend().await;
    }
}

async fn holds(adapter: &'static Adapter) {
    let providers = Providers::start().await;
    let world = World::sending(&providers, quick()).await;
    let agency = client(&world, &providers, &[adapter]).await;
    let suite = Suite {
        adapter,
        providers: &providers,
        agency,
    };
    suite.taken_and_told().await;
    suite.busy_is_tried_again().await;
    suite.away_is_tried_again().await;
    suite.failing_leaves_doubt().await;
    suite.silent_is_found_out().await;
    suite.what_it_tells_ends_the_doubt().await;
    suite.refused_for_good_fails().await;
    let unpermitted = "select (select count(*) from messaging.message_attempt) - (select count(*) from messaging.send_permit)";
    assert_eq!(suite.count(unpermitted).await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn texts_over_twilio_hold_what_every_adapter_has_to() {
    holds(&TWILIO).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mail_over_resend_holds_what_every_adapter_has_to() {
    holds(&RESEND).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mail_over_sendgrid_holds_what_every_adapter_has_to() {
    holds(&SENDGRID).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_number_that_is_none_is_refused_and_never_tried_again() {
    let providers = Providers::start().await;
    let world = World::sending(&providers, quick()).await;
    let agency = client(&world, &providers, &[&TWILIO]).await;
    let suite = Suite {
        adapter: &TWILIO,
        providers: &providers,
        agency,
    };
    let id = suite
        .send("+15005550009", proto::Purpose::Transactional)
        .await;
    let message = suite.until(&id, proto::MessageStatus::Failed).await;
    assert_eq!((message.attempts(), message.error_code()), (1, "21614"));
    let suppressed =
        "select count(*) from messaging.address_suppression where address = '+15005550009'";
    assert_eq!(suite.count(suppressed).await, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_became_of_mail_is_heard_and_learned_from() {
    for adapter in [&RESEND, &SENDGRID] {
        let providers = Providers::start().await;
        let world = World::sending(&providers, quick()).await;
        let agency = client(&world, &providers, &[adapter]).await;
        let suite = Suite {
            adapter,
            providers: &providers,
            agency,
        };
        let purpose = proto::Purpose::Transactional;
        let bounced = suite.send("bounced+1@resend.dev", purpose).await;
        suite
            .until(&bounced, proto::MessageStatus::Undelivered)
            .await;
        let dead = "select count(*) from messaging.address_suppression where address = 'bounced+1@resend.dev'";
        reached(&world, dead, 1).await;
        let complained = suite.send("complained+1@resend.dev", purpose).await;
        suite
            .until(&complained, proto::MessageStatus::Delivered)
            .await;
        let out = "select count(*) from messaging.consent_standing
                   where address = 'complained+1@resend.dev' and channel = 'email' and opted_out_at is not null";
        reached(&world, out, 1).await;
    }
}

/// A client with both.
async fn both<'w>(world: &'w World, providers: &'w Providers) -> Suite<'w> {
    Suite {
        adapter: &RESEND,
        providers,
        agency: client(world, providers, &[&RESEND, &SENDGRID]).await,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mail_that_resend_surely_refuses_leaves_over_sendgrid() {
    let providers = Providers::start().await;
    let world = World::sending(&providers, quick()).await;
    let suite = both(&world, &providers).await;
    suite.fault("status", json!({"value": 401})).await;
    let to = suite.address(1);
    let id = suite.send(&to, proto::Purpose::Transactional).await;
    let message = suite.until(&id, proto::MessageStatus::Delivered).await;
    assert_eq!((message.attempts(), suite.there(&to).await), (2, 1));
    let by = "select count(*) from messaging.message where provider = 'sendgrid'";
    assert_eq!(suite.count(by).await, 1);
}

/// Resend says that it has the same mail in hand: that is no refusal, and no other provider's turn.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mail_that_resend_may_have_never_leaves_over_sendgrid_as_well() {
    let providers = Providers::start().await;
    let world = World::sending(&providers, quick()).await;
    let suite = both(&world, &providers).await;
    suite
        .fault("status", json!({"value": 409, "count": 2}))
        .await;
    let to = suite.address(1);
    let id = suite.send(&to, proto::Purpose::Transactional).await;
    suite.until(&id, proto::MessageStatus::Delivered).await;
    assert_eq!(suite.there(&to).await, 1);
    let doubts = "select count(*) from messaging.message_event where status = 'ambiguous'";
    assert_eq!(suite.count(doubts).await, 2);
    let by = "select count(*) from messaging.message_attempt where provider <> 'resend'";
    assert_eq!(suite.count(by).await, 0);
}
