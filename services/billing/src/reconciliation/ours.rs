//! What we have of one client, as far as reconciliation compares it, read in one transaction.
//! Deliberately absent: writing.

use std::collections::HashMap;

use mainstay_db::Result;
use mainstay_types::{AgencyId, ClientId, SagaId, SubscriptionId, Tenant};
use serde_json::{Value, json};
use sqlx::PgConnection;

use super::theirs::Named;
use crate::saga::{end_grace, sync_entitlements};
use crate::subscription::{self, Subscription, sql::lookup_key};

/// Sagas that never act at Stripe: what they wait for changes nothing there.
const ELSEWHERE: [&str; 2] = [sync_entitlements::NAME, end_grace::NAME];

/// Our side of a comparison.
#[derive(Debug, Clone)]
pub(crate) struct Ours {
    /// Whether the client ever dealt with billing.
    pub has_account: bool,
    /// The customer that its account knows.
    pub customer: Option<String>,
    /// The subscription compared.
    pub row: Option<Subscription>,
    /// Where the saga stands that started it; none when it is past its retention.
    pub saga: Option<String>,
    /// Whether a saga that may act at Stripe works on this client, or is parked.
    pub in_flight: bool,
}

impl Ours {
    /// As a record of a difference keeps it.
    pub(crate) fn told(&self) -> Value {
        let Some(row) = &self.row else {
            return json!({ "stripe_customer_id": self.customer });
        };
        json!({
            "subscription_id": row.id,
            "stripe_subscription_id": row.stripe_subscription_id,
            "stripe_customer_id": self.customer,
            "status": row.status.as_str(),
            "current_period_start_at": row.current_period_start_at,
            "current_period_end_at": row.current_period_end_at,
            "trial_end_at": row.trial_end_at,
            "canceled_at": row.canceled_at,
            "amount_minor": row.price.amount_minor,
            "currency": row.price.currency.as_str(),
            "interval": row.interval.as_str(),
            "saga_id": row.saga_id,
            "saga_state": self.saga,
        })
    }

    /// Which reading of Stripe's object the row had when it was read.
    pub(crate) fn revision(&self) -> (Option<i64>, Option<i64>) {
        let row = self.row.as_ref();
        (
            row.map(|row| row.sequence),
            row.map(|row| row.provider_revision),
        )
    }
}

/// Reads it, in a transaction of that client.
pub(crate) async fn load(
    conn: &mut PgConnection,
    tenant: Tenant,
    id: Option<SubscriptionId>,
) -> Result<Ours> {
    let row = match id {
        Some(id) => subscription::sql::get(conn, tenant, id).await?,
        None => None,
    };
    let elsewhere = ELSEWHERE.map(str::to_owned);
    let found = sqlx::query!(
        r#"
        select a.tenant_id is not null as "has_account!", a.stripe_customer_id,
          (select s.state from saga s where s.id = $3) as saga,
          exists (
            select from saga s
            where s.agency_id = $1 and s.tenant_id = $2 and s.definition <> all($4)
              and s.state in ('running', 'waiting', 'compensating', 'parked')
          ) as "in_flight!"
        from (select $2::uuid as id) client
        left join billing_account a on a.tenant_id = client.id
        "#,
        tenant.agency.uuid(),
        tenant.client.uuid(),
        row.as_ref().map(|row| row.saga_id.uuid()),
        &elsewhere,
    )
    .fetch_one(conn)
    .await?;
    Ok(Ours {
        has_account: found.has_account,
        customer: found.stripe_customer_id,
        row,
        saga: found.saga,
        in_flight: found.in_flight,
    })
}

/// Whose an object at Stripe is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Owner {
    pub tenant: Tenant,
    pub subscription: Option<SubscriptionId>,
}

/// The owners of a page of objects.
#[derive(Debug, Default)]
pub(crate) struct Owners {
    by_object: HashMap<[u8; 32], Owner>,
    by_saga: HashMap<SagaId, Tenant>,
}

impl Owners {
    /// Looks all of them up at once.
    pub(crate) async fn load(
        conn: &mut PgConnection,
        objects: Vec<&str>,
        sagas: Vec<SagaId>,
    ) -> Result<Self> {
        let keys: Vec<Vec<u8>> = objects
            .into_iter()
            .map(|id| lookup_key(id).to_vec())
            .collect();
        let sagas: Vec<uuid::Uuid> = sagas.into_iter().map(SagaId::uuid).collect();
        let rows = sqlx::query!(
            r#"
            select lookup_key, agency_id as "agency_id: AgencyId", tenant_id as "tenant_id: ClientId",
              subscription_id as "subscription_id: SubscriptionId"
            from stripe_object where lookup_key = any($1)
            "#,
            &keys,
        )
        .fetch_all(&mut *conn)
        .await?;
        let by_object = rows.into_iter().filter_map(|row| {
            let key: [u8; 32] = row.lookup_key.try_into().ok()?;
            let tenant = Tenant {
                agency: row.agency_id,
                client: row.tenant_id,
            };
            let subscription = row.subscription_id;
            Some((
                key,
                Owner {
                    tenant,
                    subscription,
                },
            ))
        });
        let by_object = by_object.collect();
        let rows = sqlx::query!(
            r#"
            select id as "id: SagaId", agency_id as "agency_id: AgencyId", tenant_id as "tenant_id: ClientId"
            from saga where id = any($1)
            "#,
            &sagas,
        )
        .fetch_all(conn)
        .await?;
        let by_saga = rows.into_iter().map(|row| {
            let tenant = Tenant {
                agency: row.agency_id,
                client: row.tenant_id,
            };
            (row.id, tenant)
        });
        Ok(Self {
            by_object,
            by_saga: by_saga.collect(),
        })
    }

    /// Whose the object is: by itself, by its customer, or by the saga that it names and that was this client's.
    pub(crate) fn of(&self, id: &str, customer: Option<&str>, named: Named) -> Option<Owner> {
        let known = |id: &str| self.by_object.get(&lookup_key(id)).copied();
        known(id)
            .or_else(|| {
                let tenant = known(customer?)?.tenant;
                let subscription = named.subscription;
                Some(Owner {
                    tenant,
                    subscription,
                })
            })
            .or_else(|| {
                let tenant = *self.by_saga.get(&named.saga?)?;
                (named.client == Some(tenant.client)).then_some(Owner {
                    tenant,
                    subscription: named.subscription,
                })
            })
    }
}
