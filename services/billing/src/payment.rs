//! Payments, as Stripe made them: one row a payment intent, or a charge without one. What was captured less what was
//! refunded, over all rows, is what the database says was taken.
//! Deliberately absent: moving money. Sagas ask Stripe for it; here is what came of it.

pub mod rpc;
pub(crate) mod rules;
pub(crate) mod sql;

use chrono::{DateTime, Utc};
use mainstay_db::Worker;
use mainstay_providers::stripe::StripeFailure;
use mainstay_types::{InvoiceId, Money, PaymentId, Tenant};
use serde::{Deserialize, Serialize};
use sqlx::PgConnection;

use crate::history::{self, By};
use crate::stripe::{StripeGateway, object::PaymentReading};
use crate::stripe_events::directory;

/// Where a payment stands, in Stripe's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PaymentStatus {
    /// It needs a payment method, perhaps because the last one failed.
    RequiresPaymentMethod,
    /// It waits to be confirmed.
    RequiresConfirmation,
    /// Its payer must act.
    RequiresAction,
    /// Authorized, not yet taken.
    RequiresCapture,
    /// Under way.
    Processing,
    /// Taken.
    Succeeded,
    /// Failed.
    Failed,
    /// Called off.
    Canceled,
}

impl PaymentStatus {
    /// All of them.
    pub const ALL: [PaymentStatus; 8] = [
        PaymentStatus::RequiresPaymentMethod,
        PaymentStatus::RequiresConfirmation,
        PaymentStatus::RequiresAction,
        PaymentStatus::RequiresCapture,
        PaymentStatus::Processing,
        PaymentStatus::Succeeded,
        PaymentStatus::Failed,
        PaymentStatus::Canceled,
    ];

    /// As Stripe and the database spell it.
    pub const fn as_str(self) -> &'static str {
        match self {
            PaymentStatus::RequiresPaymentMethod => "requires_payment_method",
            PaymentStatus::RequiresConfirmation => "requires_confirmation",
            PaymentStatus::RequiresAction => "requires_action",
            PaymentStatus::RequiresCapture => "requires_capture",
            PaymentStatus::Processing => "processing",
            PaymentStatus::Succeeded => "succeeded",
            PaymentStatus::Failed => "failed",
            PaymentStatus::Canceled => "canceled",
        }
    }

    /// Our word for Stripe's; none for one that we do not know.
    pub(crate) fn from_text(text: &str) -> Option<Self> {
        let mut all = Self::ALL.into_iter();
        all.find(|status| status.as_str() == text)
    }
}

/// A payment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Payment {
    /// Its id here.
    pub id: PaymentId,
    /// `pi_…`, or `ch_…` where there is no intent.
    pub stripe_id: String,
    /// The last charge.
    pub stripe_charge_id: Option<String>,
    /// The invoice it pays, at Stripe.
    pub stripe_invoice_id: Option<String>,
    /// The same, here, once that invoice was mirrored. Read along; not part of the row.
    pub invoice_id: Option<InvoiceId>,
    /// Where it stands.
    pub status: PaymentStatus,
    /// What was asked for.
    pub amount: Money,
    /// What was taken.
    pub captured_minor: i64,
    /// What of it was given back.
    pub refunded_minor: i64,
    /// Whether it was ever disputed.
    pub disputed: bool,
    /// Why the last try failed.
    pub failure_code: Option<String>,
    /// The same, for people.
    pub failure_message: Option<String>,
    /// When the last charge was made.
    pub charged_at: Option<DateTime<Utc>>,
    /// Rises with every change.
    pub sequence: i64,
    /// When we first heard of it.
    pub created_at: DateTime<Utc>,
}

/// A reading, and how many readings of the same object had been applied before it was made. Plain data: a saga carries
/// it from the step that reads to the transaction that records.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Read {
    /// What Stripe said.
    pub reading: PaymentReading,
    /// Readings applied before.
    pub revision: i64,
}

/// Why a payment could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// Stripe has none of this id, or it failed.
    #[error(transparent)]
    Stripe(#[from] StripeFailure),
    /// The database failed.
    #[error(transparent)]
    Database(#[from] mainstay_db::Error),
}

/// Reads a payment by its intent, with the invoice it pays. For sagas and for events.
pub(crate) async fn read_intent(
    worker: &Worker,
    stripe: &StripeGateway,
    intent: &str,
) -> Result<Read, ReadError> {
    // Before Stripe is asked: what is applied after this look makes the reading stale.
    let mut connection = worker.connection().await?;
    let revision = directory::revision(connection.conn(), intent).await?;
    drop(connection);
    let mut reading = stripe.payment_state(intent).await?.reading();
    reading.stripe_invoice = stripe.invoice_of(intent).await?;
    Ok(Read { reading, revision })
}

/// Reads a payment by its charge: by the charge's intent where it has one.
pub(crate) async fn read_charge(
    worker: &Worker,
    stripe: &StripeGateway,
    charge: &str,
) -> Result<Read, ReadError> {
    let mut connection = worker.connection().await?;
    let revision = directory::revision(connection.conn(), charge).await?;
    drop(connection);
    let read = stripe.charge_state(charge).await?;
    match &read.payment_intent {
        Some(intent) => read_intent(worker, stripe, intent.id()).await,
        None => Ok(Read {
            reading: read.reading(),
            revision,
        }),
    }
}

/// Reads what was paid on an invoice. A saga that has just had an invoice paid carries it to [`record`].
pub async fn read_invoice(
    worker: &Worker,
    stripe: &StripeGateway,
    stripe_invoice: &str,
) -> Result<Vec<Read>, ReadError> {
    let mut read = Vec::new();
    for payment in stripe.payments_of(stripe_invoice).await? {
        if let Some(intent) = payment.payment_intent() {
            read.push(read_intent(worker, stripe, intent).await?);
        }
    }
    Ok(read)
}

/// What became of a reading.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Recorded {
    /// The row as it stands.
    Stands(Box<Payment>),
    /// Another reading was applied since this one was begun, and may be the newer one: roll back and read again.
    Stale,
    /// Stripe's status or currency is none we know; there is nothing to mirror.
    Unreadable,
}

/// Writes a reading in the caller's transaction, under the lock of the client's account.
///
/// # Errors
/// Those of the database.
pub async fn record(
    conn: &mut PgConnection,
    tenant: Tenant,
    by: &By,
    read: &Read,
) -> mainstay_db::Result<Recorded> {
    let reading = &read.reading;
    if !directory::count(conn, tenant, &reading.stripe_id, read.revision).await? {
        return Ok(Recorded::Stale);
    }
    let before = sql::find(conn, tenant, &reading.stripe_id).await?;
    let Some(after) = rules::mirror(before.as_ref(), reading, by.now) else {
        return Ok(Recorded::Unreadable);
    };
    if before.as_ref() != Some(&after) {
        sql::apply(conn, tenant, &after, by.now).await?;
        history::payment_changed(conn, by, before.as_ref(), &after).await?;
    }
    Ok(Recorded::Stands(Box::new(after)))
}
