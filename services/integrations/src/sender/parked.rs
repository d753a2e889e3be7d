//! Senders of clients that have left (BIL-14, INT-22): parked until they have been quiet for a while, then free again.
//! Deliberately absent: giving a number back to its provider. The agency pays for it, and decides.

use chrono::{DateTime, TimeDelta, Utc};
use mainstay_jobs::record::By;
use mainstay_jobs::{JobError, enqueue};
use mainstay_proto::integrations::v1 as proto;
use mainstay_proto::integrations::v1::sender_parking_service_server::SenderParkingService;
use mainstay_rpc::{Context, field, open};
use mainstay_types::{ClientId, ServiceName, Tenant};
use tonic::{Request, Response, Status};

use super::{Error, Noted, Sender, note, rules, sql};
use crate::jobs::release_senders;
use crate::{Integrations, provider_account};

/// For how long nobody may have written to it or rung it before it is somebody else's (INT-22).
pub const QUIET: TimeDelta = TimeDelta::days(30);

/// Parks all senders of a client. Gives how many are parked now.
///
/// # Errors
/// Only the database's.
pub async fn park(
    integrations: &Integrations,
    ctx: &Context,
    client: ClientId,
    scope: &mainstay_types::AgencyScope,
) -> Result<usize, Error> {
    let by = By::service(ctx, scope.agency, integrations.clock.now());
    let mut tx = integrations.database.agency(scope).await?;
    let all = sql::lock_of_client(tx.conn(), scope.agency, client).await?;
    let mut parked = false;
    for before in &all {
        let Some(after) = rules::parked(before, by.now) else {
            continue;
        };
        sql::apply(tx.conn(), scope.agency, &after).await?;
        note(tx.conn(), &by, Noted::Parked, Some(before), &after).await?;
        parked = true;
    }
    if parked {
        let tenant = Tenant {
            agency: scope.agency,
            client,
        };
        enqueue(tx.conn(), release_senders::job(tenant, by.now + QUIET)).await?;
    }
    tx.commit().await?;
    Ok(all.len())
}

/// Frees a client's senders that have been quiet for long enough. Gives when to look again, where some have not.
pub(crate) async fn release(
    integrations: &Integrations,
    tenant: Tenant,
) -> Result<Option<DateTime<Utc>>, JobError> {
    let now = integrations.clock.now();
    let by = By::itself(ServiceName::Integrations, tenant.agency, now);
    let scope = provider_account::whole(tenant.agency);
    let mut tx = integrations.database.agency(&scope).await?;
    let mut again = None;
    for before in sql::lock_of_client(tx.conn(), tenant.agency, tenant.client).await? {
        let Some(until) = rules::parked_until(&before) else {
            continue;
        };
        if now < until {
            again = again.max(Some(until));
            continue;
        }
        let after = rules::released(&before, now);
        sql::apply(tx.conn(), tenant.agency, &after).await?;
        let noted = note(tx.conn(), &by, Noted::Released, Some(&before), &after).await;
        noted.map_err(JobError::retry)?;
    }
    tx.commit().await?;
    Ok(again)
}

/// Whoever is parked is nobody's to change.
pub(super) fn refuse(sender: &Sender) -> Result<(), Error> {
    match (sender.parked_at, rules::parked_until(sender)) {
        (Some(at), Some(until)) => Err(Error::Parked { at, until }),
        _ => Ok(()),
    }
}

#[tonic::async_trait]
impl SenderParkingService for Integrations {
    async fn park_senders(
        &self,
        request: Request<proto::ParkSendersRequest>,
    ) -> Result<Response<proto::ParkSendersResponse>, Status> {
        let (ctx, request) = open(request)?;
        let agency = field::id("agency_id", &request.agency_id)?;
        let client: ClientId = field::id("client_id", &request.client_id)?;
        let scope = ctx.service_agency(agency)?;
        let parked = park(self, &ctx, client, &scope).await?;
        Ok(Response::new(proto::ParkSendersResponse {
            parked: i64::try_from(parked).unwrap_or(i64::MAX),
        }))
    }
}
