//! The payment methods a client has or had, as far as a person needs to tell them apart.
//! Deliberately absent: the card. It stays at Stripe.

use mainstay_db::Result;
use mainstay_types::Tenant;
use sqlx::PgConnection;

use crate::stripe::object::{CardState, MethodState};

/// Writes what a reading says. One that was detached keeps what told it apart: a trial is judged by the fingerprints a
/// client ever had.
pub(crate) async fn mirror(
    conn: &mut PgConnection,
    tenant: Tenant,
    method: &MethodState,
) -> Result<()> {
    let CardState {
        brand,
        last4,
        exp_month,
        exp_year,
        fingerprint,
    } = method.card.clone().unwrap_or_default();
    sqlx::query!(
        r#"
        insert into payment_method (agency_id, tenant_id, stripe_payment_method_id, type, brand, last4, exp_month, exp_year,
                                    fingerprint, attached)
        values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
        on conflict (tenant_id, stripe_payment_method_id) do update set type = excluded.type, brand = excluded.brand,
          last4 = excluded.last4, exp_month = excluded.exp_month, exp_year = excluded.exp_year,
          fingerprint = coalesce(excluded.fingerprint, payment_method.fingerprint), attached = excluded.attached
        "#,
        tenant.agency.uuid(),
        tenant.client.uuid(),
        method.id,
        method.kind,
        brand,
        last4,
        exp_month,
        exp_year,
        fingerprint,
        method.customer.is_some()
    )
    .execute(conn)
    .await?;
    Ok(())
}
