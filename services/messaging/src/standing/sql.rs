//! The query of the gate.
//! Deliberately absent: a second one. What a decision needs is read in one snapshot.

use chrono::{DateTime, Utc};
use mainstay_db::Result;
use mainstay_rpc::entitlement;
use mainstay_types::{MessageId, Tenant};
use sqlx::PgConnection;
use sqlx::types::Json;
use uuid::Uuid;

use super::{Asked, Standing, period_key};
use crate::consent;
use crate::gate::rules::CAP;

/// How each address stands, in the order asked; a row for each, whatever there is.
pub(crate) async fn find(
    conn: &mut PgConnection,
    tenant: Tenant,
    asked: &[Asked],
    now: DateTime<Utc>,
) -> Result<Vec<Standing>> {
    let channels: Vec<String> = asked
        .iter()
        .map(|one| one.channel.as_str().to_owned())
        .collect();
    let addresses: Vec<String> = asked
        .iter()
        .map(|one| one.address.as_str().to_owned())
        .collect();
    let messages: Vec<Uuid> = asked
        .iter()
        .map(|one| one.message.map_or(Uuid::nil(), MessageId::uuid))
        .collect();
    let rows = sqlx::query!(
        r#"select h.closed_at as "closed_at?", h.hold_reason as "hold_reason?", s.opted_out_at as "opted_out_at?", s.basis as "basis?",
             s.given_at as "given_at?", c.listed_at is not null as "on_clients_list!",
             a.listed_at is not null as "on_agencys_list!", d.reason as "suppressed?",
             l.limits as "limits?: Json<entitlement::Limits>", l.period_start_at as "period_start_at?",
             l.period_end_at as "period_end_at?", n.sent as "used?",
             array(select m.permitted_at from message m
                   where m.tenant_id = $2 and m.address = asked.address and m.capped and m.id <> asked.message
                     and m.status <> 'failed'
                   order by m.permitted_at desc limit $6) as "sent_at!: Vec<DateTime<Utc>>",
             greatest(
               (select m.created_at from message m
                where m.tenant_id = $2 and m.address = asked.address and m.direction = 'inbound'
                order by m.created_at desc limit 1),
               (select c.started_at from call c where c.tenant_id = $2 and c.address = asked.address
                order by c.started_at desc limit 1)) as last_inbound_at
           from unnest($3::text[], $4::text[], $5::uuid[]) with ordinality as asked (channel, address, message, place)
           left join client_sending h on h.tenant_id = $2
           left join client_limit l on l.tenant_id = $2
           left join message_counter n on n.tenant_id = $2
             and n.period = coalesce(to_char(l.period_start_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"'), $7)
           left join consent_standing s on s.tenant_id = $2 and s.channel = asked.channel and s.address = asked.address
           left join client_do_not_contact c on c.tenant_id = $2 and c.address = asked.address
           left join agency_do_not_contact a on a.agency_id = $1 and a.address = asked.address
           left join address_suppression d on d.tenant_id = $2 and d.channel = asked.channel and d.address = asked.address
           order by asked.place"#,
        tenant.agency.uuid(),
        tenant.client.uuid(),
        &channels,
        &addresses,
        &messages,
        i64::try_from(CAP).unwrap_or(i64::MAX),
        period_key(None, now),
    )
    .fetch_all(conn)
    .await?;
    let standings = rows.into_iter().map(|row| Standing {
        closed_at: row.closed_at,
        hold: row.hold_reason,
        opted_out_at: row.opted_out_at,
        consent: consent::grounds(row.basis.as_deref(), row.given_at),
        on_clients_list: row.on_clients_list,
        on_agencys_list: row.on_agencys_list,
        suppressed: row.suppressed,
        limits: row.limits.map(|limits| limits.0),
        period_starts_at: row.period_start_at,
        period_ends_at: row.period_end_at,
        used: row.used.unwrap_or(0),
        sent_at: row.sent_at,
        last_inbound_at: row.last_inbound_at,
    });
    Ok(standings.collect())
}
