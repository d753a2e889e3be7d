//! `LimitService`: protobuf to commands and back.
//! Deliberately absent: authorisation. The stack has done it before a handler runs.

use mainstay_jobs::saga_step::Write;
use mainstay_proto::common::v1::Entitlements;
use mainstay_proto::messaging::v1::{self as proto, limit_service_server::LimitService};
use mainstay_rpc::{Violations, entitlement, field, open};
use mainstay_types::ClientId;
use tonic::{Request, Response, Status};

use super::{Apply, Limits, Period, Stored};
use crate::Messaging;

#[tonic::async_trait]
impl LimitService for Messaging {
    async fn get_limits(
        &self,
        request: Request<proto::GetLimitsRequest>,
    ) -> Result<Response<proto::ClientLimits>, Status> {
        let (ctx, _) = open(request)?;
        let tenant = ctx.tenant();
        let stored = super::get(self, tenant).await?;
        Ok(Response::new(answer(tenant.client, stored)))
    }

    async fn apply_limits(
        &self,
        request: Request<proto::ApplyLimitsRequest>,
    ) -> Result<Response<proto::ApplyLimitsResponse>, Status> {
        let (ctx, request) = open(request)?;
        let agency = field::id("agency_id", &request.agency_id)?;
        let tenant = ctx.service_tenant(agency, field::id("client_id", &request.client_id)?)?;
        let outcome = super::apply(self, &ctx, tenant, apply(request)?).await?;
        Ok(Response::new(proto::ApplyLimitsResponse {
            applied: outcome.applied,
            version: outcome.version,
        }))
    }

    async fn check_limits(
        &self,
        request: Request<proto::CheckLimitsRequest>,
    ) -> Result<Response<proto::CheckLimitsResponse>, Status> {
        let (ctx, request) = open(request)?;
        let agency = field::id("agency_id", &request.agency_id)?;
        let tenant = ctx.service_tenant(agency, field::id("client_id", &request.client_id)?)?;
        super::check(self, tenant).await?;
        Ok(Response::new(proto::CheckLimitsResponse {}))
    }
}

fn apply(request: proto::ApplyLimitsRequest) -> Result<Apply, Status> {
    let mut faults = Violations::new();
    let given = request.entitlements.unwrap_or_default();
    let features = entitlement::features(given.features);
    let limits = entitlement::limits(given.limits, &mut faults);
    let start_at = field::time_given(
        "period_start_at",
        request.period_start_at.as_ref(),
        &mut faults,
    );
    let end_at = field::time_given("period_end_at", request.period_end_at.as_ref(), &mut faults);
    let period = match (start_at, end_at) {
        (Some(start_at), Some(end_at)) => Some(Period { start_at, end_at }),
        _ => None,
    };
    if request.period_start_at.is_some() != request.period_end_at.is_some() {
        faults.add(
            "period_end_at",
            "a period has a start and an end, or neither",
        );
    }
    if period.is_some_and(|period| period.end_at <= period.start_at) {
        faults.add("period_end_at", "must be after period_start_at");
    }
    // The rules say so too; a zero would make every later write a repeat of it.
    if request.version < 1 {
        faults.add("version", "must be at least 1");
    }
    if request.fence < 1 {
        faults.add("fence", "must be at least 1");
    }
    faults.finish()?;
    Ok(Apply {
        limits: Limits {
            features,
            limits,
            subscription_id: field::id("subscription_id", &request.subscription_id)?,
            period,
        },
        write: Write {
            version: request.version,
            saga: field::id("saga_id", &request.saga_id)?,
            step: request.step,
            fence: request.fence,
            undo: request.undo,
        },
        sale: request.sale,
    })
}

/// A client to whom nothing was sold has no features and no limits.
fn answer(client: ClientId, stored: Option<Stored>) -> proto::ClientLimits {
    let Some(stored) = stored else {
        return proto::ClientLimits {
            client_id: Some(client.to_string()),
            entitlements: Some(Entitlements::default()),
            version: Some(0),
            ..Default::default()
        };
    };
    let what = stored.limits;
    proto::ClientLimits {
        client_id: Some(client.to_string()),
        entitlements: Some(Entitlements {
            features: what.features,
            limits: entitlement::limits_answer(what.limits),
        }),
        subscription_id: Some(what.subscription_id.to_string()),
        period_start_at: what.period.map(|period| field::timestamp(period.start_at)),
        period_end_at: what.period.map(|period| field::timestamp(period.end_at)),
        version: Some(stored.version),
        updated_at: Some(field::timestamp(stored.updated_at)),
    }
}
