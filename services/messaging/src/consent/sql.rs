//! All queries about consent.
//! Deliberately absent: an update or delete of the history. Its table refuses both.

use chrono::{DateTime, Utc};
use mainstay_db::Result;
use mainstay_types::Tenant;
use sqlx::PgConnection;
use uuid::Uuid;

use super::{Entry, Kind, Said, Standing};
use crate::address::Address;
use crate::gate::rules::Consent;
use crate::gate::{Basis, Channel};

struct Row {
    channel: String,
    opted_out_at: Option<DateTime<Utc>>,
    basis: Option<String>,
    given_at: Option<DateTime<Utc>>,
    revision: i64,
}

/// The grounds of two columns that are set together, says the table.
pub(crate) fn grounds(basis: Option<&str>, given_at: Option<DateTime<Utc>>) -> Option<Consent> {
    let basis = Basis::named(basis?)?;
    given_at.map(|given_at| Consent { basis, given_at })
}

impl Row {
    /// None for a channel that only a newer release knows.
    fn standing(self) -> Option<Standing> {
        Some(Standing {
            channel: Channel::named(&self.channel)?,
            opted_out_at: self.opted_out_at,
            consent: grounds(self.basis.as_deref(), self.given_at),
            revision: self.revision,
        })
    }
}

/// The rows there are of an address.
pub(super) async fn list(
    conn: &mut PgConnection,
    tenant: Tenant,
    address: &Address,
) -> Result<Vec<Standing>> {
    let channels: Vec<String> = address
        .channels()
        .iter()
        .map(|channel| channel.as_str().to_owned())
        .collect();
    let rows = sqlx::query_as!(
        Row,
        "select channel, opted_out_at, basis, given_at, revision from consent_standing
         where tenant_id = $1 and channel = any ($2) and address = $3",
        tenant.client.uuid(),
        &channels,
        address.as_str(),
    )
    .fetch_all(conn)
    .await?;
    Ok(rows.into_iter().filter_map(Row::standing).collect())
}

/// Locks the row of an address on a channel, made if there was none.
pub(super) async fn lock(
    conn: &mut PgConnection,
    tenant: Tenant,
    channel: Channel,
    address: &Address,
    now: DateTime<Utc>,
) -> Result<Standing> {
    sqlx::query!(
        "insert into consent_standing (agency_id, tenant_id, channel, address, created_at, updated_at)
         values ($1, $2, $3, $4, $5, $5)
         on conflict (tenant_id, channel, address) do nothing",
        tenant.agency.uuid(),
        tenant.client.uuid(),
        channel.as_str(),
        address.as_str(),
        now,
    )
    .execute(&mut *conn)
    .await?;
    let row = sqlx::query_as!(
        Row,
        "select channel, opted_out_at, basis, given_at, revision from consent_standing
         where tenant_id = $1 and channel = $2 and address = $3 for no key update",
        tenant.client.uuid(),
        channel.as_str(),
        address.as_str(),
    )
    .fetch_one(conn)
    .await?;
    Ok(Standing {
        channel,
        opted_out_at: row.opted_out_at,
        consent: grounds(row.basis.as_deref(), row.given_at),
        revision: row.revision,
    })
}

/// Writes how it stands, under its lock.
pub(super) async fn apply(
    conn: &mut PgConnection,
    tenant: Tenant,
    address: &Address,
    after: Standing,
    now: DateTime<Utc>,
) -> Result<()> {
    sqlx::query!(
        "update consent_standing set opted_out_at = $4, basis = $5, given_at = $6, revision = $7, updated_at = $8
         where tenant_id = $1 and channel = $2 and address = $3",
        tenant.client.uuid(),
        after.channel.as_str(),
        address.as_str(),
        after.opted_out_at,
        after.consent.map(|consent| consent.basis.as_str()),
        after.consent.map(|consent| consent.given_at),
        after.revision,
        now,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Appends to the history.
pub(super) async fn insert(
    conn: &mut PgConnection,
    tenant: Tenant,
    entry: &Entry,
    revision: i64,
) -> Result<()> {
    let (kind, basis) = match entry.kind {
        Kind::Consent(consent) => ("consent", Some(consent.basis.as_str())),
        Kind::OptOut => ("opt_out", None),
        Kind::OptIn => ("opt_in", None),
    };
    sqlx::query!(
        "insert into consent_event (agency_id, tenant_id, id, channel, address, revision, kind, basis, source, text,
           recorded_by, occurred_at, created_at)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)",
        tenant.agency.uuid(),
        tenant.client.uuid(),
        entry.id,
        entry.channel.as_str(),
        entry.address,
        revision,
        kind,
        basis,
        entry.said.source,
        entry.said.text,
        entry.recorded_by,
        entry.occurred_at,
        entry.recorded_at,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// The history, newest first.
pub(super) async fn history(
    conn: &mut PgConnection,
    tenant: Tenant,
    address: Option<&Address>,
    after: Option<Uuid>,
    limit: i64,
) -> Result<Vec<Entry>> {
    let rows = sqlx::query!(
        "select id, channel, address, kind, basis, source, text, recorded_by, occurred_at, created_at from consent_event
         where tenant_id = $1 and ($2::text is null or address = $2) and ($3::uuid is null or id < $3)
         order by id desc limit $4",
        tenant.client.uuid(),
        address.map(Address::as_str),
        after,
        limit,
    )
    .fetch_all(conn)
    .await?;
    let entries = rows.into_iter().filter_map(|row| {
        let kind = match row.kind.as_str() {
            "consent" => Kind::Consent(grounds(row.basis.as_deref(), Some(row.occurred_at))?),
            "opt_out" => Kind::OptOut,
            "opt_in" => Kind::OptIn,
            _ => return None,
        };
        Some(Entry {
            id: row.id,
            address: row.address,
            channel: Channel::named(&row.channel)?,
            kind,
            said: Said {
                source: row.source,
                text: row.text,
            },
            recorded_by: row.recorded_by,
            occurred_at: row.occurred_at,
            recorded_at: row.created_at,
        })
    });
    Ok(entries.collect())
}
