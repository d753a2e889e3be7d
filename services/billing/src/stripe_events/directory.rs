//! Whose an object at Stripe is, and how many readings of it were applied. A reading carries the count from before it was
//! made; when the count has moved since, the reading may be older than what it would overwrite, and is made again.
//! Deliberately absent: what the objects are. It knows ids, hashed.

use mainstay_db::Result;
use mainstay_types::{AgencyId, ClientId, SubscriptionId, Tenant};
use sqlx::PgConnection;

use crate::subscription::sql::lookup_key;

/// Whose an object at Stripe is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Owner {
    pub tenant: Tenant,
    pub subscription: Option<SubscriptionId>,
    pub revision: i64,
}

/// What is known before an event is looked into.
#[derive(Debug)]
pub(crate) struct Look {
    /// Whether it had its effect. A first look, so that most duplicates cost one statement; the inbox decides.
    pub seen: bool,
    /// Its object.
    pub object: Option<Owner>,
    /// Whose it is by what its object names: the customer, the payment.
    pub related: Option<Tenant>,
}

impl Look {
    /// Whose the event is, as far as that is known.
    pub fn tenant(&self) -> Option<Tenant> {
        self.object.map(|owner| owner.tenant).or(self.related)
    }
}

/// All that is to be known about an event, in one statement.
pub(crate) async fn look(
    conn: &mut PgConnection,
    event_id: &str,
    object: Option<&str>,
    related: &[&str],
) -> Result<Look> {
    let key = object.map(|id| lookup_key(id).to_vec());
    let related: Vec<Vec<u8>> = related.iter().map(|id| lookup_key(id).to_vec()).collect();
    let row = sqlx::query!(
        r#"
        select exists (select from stripe_event_inbox where stripe_event_id = $1) as "seen!",
          o.agency_id as "agency_id?: AgencyId", o.tenant_id as "tenant_id?: ClientId",
          o.subscription_id as "subscription_id?: SubscriptionId", o.revision as "revision?",
          r.agency_id as "related_agency?: AgencyId", r.tenant_id as "related_client?: ClientId"
        from (select) one
        left join stripe_object o on o.lookup_key = $2
        left join lateral (select agency_id, tenant_id from stripe_object where lookup_key = any($3) limit 1) r on true
        "#,
        event_id,
        key,
        &related
    )
    .fetch_one(conn)
    .await?;
    let object = match (row.agency_id, row.tenant_id) {
        (Some(agency), Some(client)) => Some(Owner {
            tenant: Tenant { agency, client },
            subscription: row.subscription_id,
            revision: row.revision.unwrap_or_default(),
        }),
        _ => None,
    };
    let related = match (row.related_agency, row.related_client) {
        (Some(agency), Some(client)) => Some(Tenant { agency, client }),
        _ => None,
    };
    Ok(Look {
        seen: row.seen,
        object,
        related,
    })
}

/// Whose an object is.
pub(crate) async fn owner(conn: &mut PgConnection, stripe_id: &str) -> Result<Option<Owner>> {
    let key = lookup_key(stripe_id);
    let row = sqlx::query!(
        r#"
        select agency_id as "agency_id: AgencyId", tenant_id as "tenant_id: ClientId",
          subscription_id as "subscription_id: SubscriptionId", revision
        from stripe_object where lookup_key = $1
        "#,
        key.as_slice()
    )
    .fetch_optional(conn)
    .await?;
    Ok(row.map(|row| Owner {
        tenant: Tenant {
            agency: row.agency_id,
            client: row.tenant_id,
        },
        subscription: row.subscription_id,
        revision: row.revision,
    }))
}

/// How many readings of an object were applied. To be asked before Stripe is.
pub(crate) async fn revision(conn: &mut PgConnection, stripe_id: &str) -> Result<i64> {
    Ok(owner(conn, stripe_id)
        .await?
        .map_or(0, |owner| owner.revision))
}

/// Counts an applied reading and notes whose the object is; false when another reading was applied since `revision` was
/// asked for, or the object is another client's. Under the lock of the client's account.
pub(crate) async fn count(
    conn: &mut PgConnection,
    tenant: Tenant,
    stripe_id: &str,
    revision: i64,
) -> Result<bool> {
    let key = lookup_key(stripe_id);
    let counted = sqlx::query!(
        r#"
        insert into stripe_object as o (lookup_key, agency_id, tenant_id, revision) values ($1, $2, $3, 1)
        on conflict (lookup_key) do update set revision = o.revision + 1
          where o.revision = $4 and o.agency_id = $2 and o.tenant_id = $3
        "#,
        key.as_slice(),
        tenant.agency.uuid(),
        tenant.client.uuid(),
        revision
    )
    .execute(conn)
    .await?;
    Ok(counted.rows_affected() == 1)
}
