//! The off-boarding of a client before the prover: now, and with its period; and without a subscription.

use std::sync::Arc;

use mainstay_billing::saga::offboard_client::NAME;
use mainstay_billing::saga::prover::{Ended, World, cases};
use mainstay_proto::billing::v1::{
    CancelWhen, GetOffboardingRequest, OffboardClientRequest, Offboarding, OffboardingState, Plan,
    SubscriptionStatus,
};
use mainstay_types::{ClientId, SagaId};
use tonic::Status;

use super::{Seen, definition, expect, prove, sabotaged, told};
use crate::stage::Stage;

struct Leaving {
    stage: Arc<Stage>,
    /// None: the client has nothing.
    plan: Option<Plan>,
    when: CancelWhen,
}

impl Leaving {
    async fn ask(&self, client: ClientId, when: CancelWhen) -> Result<(), Status> {
        let request = OffboardClientRequest {
            client_id: client.to_string(),
            when: Some(when.into()),
            reason: None,
        };
        let mut service = self.stage.offboardings();
        let answer = service.offboard_client(self.stage.owner(request)).await;
        answer.map(drop)
    }

    async fn stands(&self, client: ClientId) -> Offboarding {
        let request = GetOffboardingRequest {
            client_id: client.to_string(),
        };
        let mut service = self.stage.offboardings();
        let found = service.get_offboarding(self.stage.owner(request)).await;
        found.expect("it was asked for").into_inner()
    }
}

#[tonic::async_trait]
impl World for Leaving {
    fn saga(&self) -> &'static str {
        NAME
    }

    async fn client(&self) -> ClientId {
        let client = self.stage.another_client();
        if let Some(plan) = &self.plan {
            let order = self.stage.order_of(client, plan, Some("pm_card_visa"));
            self.stage.subscribed(client, order).await;
        }
        client
    }

    async fn begin(&self, client: ClientId) -> SagaId {
        let asks = Leaving {
            stage: Arc::clone(&self.stage),
            plan: None,
            when: self.when,
        };
        let asked = async move { asks.ask(client, asks.when).await };
        self.stage.begun_by(client, NAME, asked).await
    }

    /// It waits for the end of the period; its agency does not any longer. Said once: when the saga has ended meanwhile, the
    /// same words are a new off-boarding.
    async fn go_on(&self, client: ClientId, _: SagaId) {
        if self.stands(client).await.when() == CancelWhen::PeriodEnd {
            // It is refused where the saga is to be.
            let _ = self.ask(client, CancelWhen::Now).await;
        }
    }

    async fn disagreements(&self, client: ClientId, saga: SagaId, ended: Ended) -> Vec<String> {
        let (mut wrong, id) = (Vec::new(), client.to_string());
        let left = ended == Ended::Completed;
        let stands = self.stands(client).await;
        let state = match left {
            true => OffboardingState::Completed,
            false => OffboardingState::Withdrawn,
        };
        expect(&mut wrong, "the off-boarding", stands.state(), state);
        expect(
            &mut wrong,
            "its saga",
            stands.saga_id,
            Some(saga.to_string()),
        );
        let closed = self.stage.messaging.closed(&id) > 0;
        let parked = self.stage.integrations.parked(&id) > 0;
        expect(&mut wrong, "closed at messaging", closed, left);
        expect(&mut wrong, "parked at integrations", parked, left);
        let canceled = self.stage.identity.is_canceled(&id);
        expect(&mut wrong, "canceled at identity", canceled, left);
        if self.plan.is_some() {
            let seen = Seen::of(&self.stage, client).await;
            let ours = self.stage.newest_subscription(client).await;
            let ours = self.stage.subscription_of(client, &ours).await;
            let (status, live) = match left {
                true => (SubscriptionStatus::Canceled, 0),
                false => (SubscriptionStatus::Active, 1),
            };
            expect(&mut wrong, "our subscription", ours.status(), status);
            expect(&mut wrong, "live at Stripe", seen.live(), live);
            let ending = seen.at_stripe[0]["cancel_at_period_end"] == true;
            expect(&mut wrong, "still to end", ending && !left, false);
            expect(&mut wrong, "taken", seen.taken(), 99_700);
            let granted = told(&self.stage, client, &mut wrong);
            expect(&mut wrong, "granted", granted.is_empty(), left);
        }
        wrong
    }
}

async fn leaving(when: CancelWhen, subscribed: bool) {
    let (stage, prover, plan) = sabotaged().await;
    let chosen = cases(&definition(&stage, NAME).await);
    let plan = subscribed.then_some(plan);
    prove(prover, Arc::new(Leaving { stage, plan, when }), chosen).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn offboard_client_holds_whatever_breaks() {
    leaving(CancelWhen::Now, true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn offboard_client_with_its_period_holds_whatever_breaks() {
    leaving(CancelWhen::PeriodEnd, true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn offboard_client_without_a_subscription_holds_whatever_breaks() {
    leaving(CancelWhen::Now, false).await;
}
