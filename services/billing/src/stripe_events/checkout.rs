//! `checkout.session.*`: the session is read again. Once it is paid, the saga `onboard_client` gives it its effect.
//! A saga belongs to a client, so the client of somebody new is made before it, under the session's id: identity gives
//! the same one however often it is asked.
//! Deliberately absent: trust in what the event says was paid.

use mainstay_types::{AgencyScope, Tenant, Visible};

use super::effects::Effect;
use super::{Handled, Intake, IntakeError, Outcome, StripeEvent, sql};
use crate::checkout::{
    Order, SessionState,
    rules::{self, Ordered},
    saga_of, sql as sessions,
};
use crate::history::{self, By};
use crate::identity::Newcomer;
use crate::saga::onboard_client::{self, OnboardClient};
use crate::stripe::object::{CheckoutSession, Ref};
use crate::subscription::sql::{ensure_account, lock_account};

pub(super) async fn handle(
    intake: &Intake,
    event: &StripeEvent,
    effect: Effect,
) -> Result<Handled, IntakeError> {
    let session = match intake.stripe.checkout_session(&event.about.id).await {
        Ok(session) => session,
        Err(failure) if failure.is_missing() => {
            return Ok(Handled::retry("Stripe has no such session", None));
        }
        Err(failure) => return Err(IntakeError::Stripe(failure)),
    };
    let order = match rules::order(&session.metadata) {
        Ordered::Plan(order) if session.mode == "subscription" => order,
        Ordered::Plan(_) | Ordered::Nothing => {
            let detail = "the session sells no plan of ours";
            return note_ignored(intake, event, detail).await;
        }
        // Money may have been taken: a person has to look, so it becomes a dead letter and not a quiet nothing.
        Ordered::Unreadable(faults) => {
            let faults = faults.join("; ");
            tracing::error!(
                session = session.id,
                faults,
                "a checkout session of ours cannot be read"
            );
            return Ok(Handled::retry(
                format!("its metadata cannot be read: {faults}"),
                None,
            ));
        }
    };
    let paid = matches!(
        session.payment_status.as_str(),
        "paid" | "no_payment_required"
    );
    match (
        session.status.as_deref(),
        &session.customer,
        &session.subscription,
    ) {
        (Some("complete"), Some(customer), Some(subscription)) if paid => {
            let bought = (customer, subscription);
            onboard(intake, event, &session, order, bought).await
        }
        (Some("complete"), ..) if effect == Effect::FailCheckout => {
            note(intake, event, &session, &order, SessionState::PaymentFailed).await
        }
        (Some("complete"), ..) if !paid => {
            note(
                intake,
                event,
                &session,
                &order,
                SessionState::AwaitingPayment,
            )
            .await
        }
        (Some("expired"), ..) => note(intake, event, &session, &order, SessionState::Expired).await,
        _ => Ok(Handled::retry(
            "Stripe has not finished the session yet",
            None,
        )),
    }
}

async fn onboard(
    intake: &Intake,
    event: &StripeEvent,
    session: &CheckoutSession,
    order: Order,
    (customer, subscription): (&Ref, &Ref),
) -> Result<Handled, IntakeError> {
    let details = session.customer_details.clone().unwrap_or_default();
    let newcomer = Newcomer {
        origin: format!("stripe_checkout/{}", session.id),
        name: details
            .name
            .or_else(|| details.email.clone())
            .unwrap_or_else(|| format!("Checkout {}", session.id)),
        email: details.email,
        phone: details.phone,
    };
    let asked = match order.client {
        Some(client) => intake.identity.find(order.agency, client).await,
        None => intake.identity.ensure_client(order.agency, newcomer).await,
    };
    let client = asked.map_err(IntakeError::Identity)?;
    let tenant = Tenant {
        agency: order.agency,
        client,
    };
    let saga = saga_of(&session.id);
    let by = By::stripe(tenant, &event.id, intake.clock.now());
    let mut tx = intake.database.worker().tenant(tenant).await?;
    ensure_account(tx.conn(), tenant).await?;
    lock_account(tx.conn(), tenant).await?;
    if !sql::note(tx.conn(), event, "applied").await? {
        return Ok(Handled::new(
            Outcome::Duplicate,
            "seen before",
            Some(tenant),
        ));
    }
    if !sessions::note_paid(tx.conn(), tenant, &session.id, saga).await? {
        tx.commit().await?;
        let detail = "its saga was started before";
        return Ok(Handled::new(Outcome::Applied, detail, Some(tenant)));
    }
    let input = OnboardClient {
        subscription: mainstay_types::SubscriptionId::generate(),
        plan: order.plan,
        currency: order.currency,
        interval: order.interval,
        stripe_session: session.id.clone(),
        stripe_customer: customer.id().to_owned(),
        stripe_subscription: subscription.id().to_owned(),
        is_new: order.client.is_none(),
        by,
    };
    let name = onboard_client::NAME;
    let started = intake.engine.start(tx.conn(), tenant, name, saga, &input);
    let started = started.await?;
    tx.commit().await?;
    intake.engine.launch(started);
    let detail = "paid; its saga was started";
    Ok(Handled::new(Outcome::Applied, detail, Some(tenant)))
}

/// Notes how far a session has come that is not paid, and tells it once.
async fn note(
    intake: &Intake,
    event: &StripeEvent,
    session: &CheckoutSession,
    order: &Order,
    state: SessionState,
) -> Result<Handled, IntakeError> {
    let scope = AgencyScope {
        agency: order.agency,
        visible: Visible::All,
    };
    let mut tx = intake.database.worker().agency(&scope).await?;
    if !sql::note(tx.conn(), event, "applied").await? {
        return Ok(Handled::new(Outcome::Duplicate, "seen before", None));
    }
    let noted = sessions::note(tx.conn(), order.agency, &session.id, state).await?;
    if let Some(sequence) = noted {
        let by = By {
            agency: order.agency,
            client: None,
            principal: "service:billing".to_owned(),
            request_id: Some(event.id.clone()),
            now: intake.clock.now(),
        };
        history::checkout_changed(tx.conn(), &by, &session.id, state, sequence).await?;
    }
    tx.commit().await?;
    let detail = match state {
        SessionState::AwaitingPayment => "completed; its payment is on its way",
        SessionState::PaymentFailed => "its payment failed",
        SessionState::Expired => "it expired",
    };
    Ok(Handled::new(Outcome::Applied, detail, None))
}

async fn note_ignored(
    intake: &Intake,
    event: &StripeEvent,
    detail: &str,
) -> Result<Handled, IntakeError> {
    let mut worker = intake.database.worker().connection().await?;
    let outcome = match sql::note(worker.conn(), event, "ignored").await? {
        true => Outcome::Ignored,
        false => Outcome::Duplicate,
    };
    Ok(Handled::new(outcome, detail, None))
}
