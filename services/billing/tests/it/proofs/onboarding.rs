//! The proof of `onboard_client`: whoever paid a link is let in, or has its money back.
//! Deliberately absent: making the client, which identity does before the saga begins.

use mainstay_billing::saga::onboard_client::NAME;

use super::*;

/// A client pays a link.
struct Paying {
    stage: Arc<Stage>,
    plan: Plan,
}

#[tonic::async_trait]
impl World for Paying {
    fn saga(&self) -> &'static str {
        NAME
    }

    async fn client(&self) -> ClientId {
        self.stage.another_client()
    }

    async fn begin(&self, client: ClientId) -> SagaId {
        let (stage, id) = (&self.stage, client.to_string());
        let agency = stage.agency.to_string();
        let form = [
            ("mode", "subscription"),
            ("success_url", "https://agency.test/thanks"),
            ("line_items[0][quantity]", "1"),
            ("line_items[0][price_data][currency]", "usd"),
            ("line_items[0][price_data][unit_amount]", "99700"),
            ("line_items[0][price_data][recurring][interval]", "month"),
            ("line_items[0][price_data][product_data][name]", "Pro"),
            ("metadata[mainstay_agency_id]", &agency),
            ("metadata[mainstay_client_id]", &id),
            ("metadata[mainstay_plan_id]", self.plan.id()),
            ("metadata[mainstay_currency]", "usd"),
            ("metadata[mainstay_interval]", "month"),
        ];
        let session = stage.at_stripe("/stripe/v1/checkout/sessions", &form).await;
        let session = session["id"].as_str().expect("an id");
        let path = format!("/_/stripe/checkout_sessions/{session}/complete");
        let payer = [
            ("payment_method", "pm_card_visa"),
            ("email", "ana@roof.test"),
        ];
        stage.at_stripe(&path, &payer).await;
        let event = json!({
            "id": format!("evt_{session}"), "type": "checkout.session.completed",
            "data": { "object": { "id": session } },
        });
        let told = Arc::clone(stage);
        let told = async move { told.deliver(&event).await };
        stage.begun_by(client, NAME, told).await
    }

    async fn disagreements(&self, client: ClientId, _: SagaId, ended: Ended) -> Vec<String> {
        let ledger = self.stage.ledger_of(client).await;
        let list = |name: &str| ledger[name].as_array().cloned().unwrap_or_default();
        let id = client.to_string();
        let sessions = list("checkout_sessions");
        let mut sessions = sessions.iter();
        let session = sessions.find(|one| one["metadata"]["mainstay_client_id"] == id.as_str());
        let customer = session.map(|one| one["customer"].clone());
        let theirs = |one: &Value| Some(&one["customer"]) == customer.as_ref();
        let seen = Seen {
            at_stripe: list("subscriptions").into_iter().filter(theirs).collect(),
            charges: list("charges").into_iter().filter(theirs).collect(),
            open_invoices: 0,
            customers: 1,
        };
        let mut wrong = Vec::new();
        let (live, taken, active, features): (_, _, _, &[&str]) = match ended {
            Ended::Completed => (1, 99_700, 1, &["ai_replies"]),
            Ended::Compensated => (0, 0, 0, &[]),
        };
        expect(&mut wrong, "live at Stripe", seen.live(), live);
        expect(&mut wrong, "taken at Stripe", seen.taken(), taken);
        let of = client.uuid();
        let live_here = format!(
            "select count(*) from billing.subscription where tenant_id = '{of}' and status not in ('failed', 'canceled')"
        );
        let live_here = self.stage.database.count(&live_here).await;
        expect(&mut wrong, "live here", live_here, active);
        let notices = format!(
            "select count(*) from billing.outbox_event where tenant_id = '{of}'
             and type in ('billing.client.onboarded', 'billing.client.second_subscription_refunded')"
        );
        expect(
            &mut wrong,
            "told of it",
            self.stage.database.count(&notices).await,
            1,
        );
        let granted = told(&self.stage, client, &mut wrong);
        expect(&mut wrong, "granted", granted.len(), features.len());
        wrong
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn onboard_client_holds_whatever_breaks() {
    let (stage, prover, plan) = sabotaged().await;
    let chosen = cases(&definition(&stage, NAME).await);
    prove(prover, Arc::new(Paying { stage, plan }), chosen).await;
}
