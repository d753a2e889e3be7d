//! `EntitlementService`: protobuf to commands and back.
//! Deliberately absent: authorisation. The stack has done it before a handler runs.

use mainstay_jobs::saga_step::Write;
use mainstay_proto::common::v1 as common;
use mainstay_proto::identity::v1::{self as proto, entitlement_service_server::EntitlementService};
use mainstay_rpc::{Violations, entitlement, open};
use tonic::{Request, Response, Status};

use super::{Entitlements, Put, Stored};
use crate::{Identity, wire};

#[tonic::async_trait]
impl EntitlementService for Identity {
    async fn get_entitlements(
        &self,
        request: Request<proto::GetEntitlementsRequest>,
    ) -> Result<Response<proto::ClientEntitlements>, Status> {
        let (ctx, _) = open(request)?;
        let tenant = ctx.tenant();
        let stored = super::get(self, tenant).await?;
        Ok(Response::new(answer(tenant.client.to_string(), stored)))
    }

    async fn put_entitlements(
        &self,
        request: Request<proto::PutEntitlementsRequest>,
    ) -> Result<Response<proto::PutEntitlementsResponse>, Status> {
        let (ctx, request) = open(request)?;
        let agency = wire::id("agency_id", &request.agency_id)?;
        let tenant = ctx.service_tenant(agency, wire::id("client_id", &request.client_id)?)?;
        let outcome = super::put(self, &ctx, tenant, put(request)?).await?;
        Ok(Response::new(proto::PutEntitlementsResponse {
            applied: outcome.applied,
            version: outcome.version,
        }))
    }

    async fn check_entitlements(
        &self,
        request: Request<proto::CheckEntitlementsRequest>,
    ) -> Result<Response<proto::CheckEntitlementsResponse>, Status> {
        let (ctx, request) = open(request)?;
        let scope = ctx.service_agency(wire::id("agency_id", &request.agency_id)?)?;
        super::check(self, &scope, wire::id("client_id", &request.client_id)?).await?;
        Ok(Response::new(proto::CheckEntitlementsResponse {}))
    }
}

fn put(request: proto::PutEntitlementsRequest) -> Result<Put, Status> {
    let mut faults = Violations::new();
    let given = request.entitlements.unwrap_or_default();
    let features = entitlement::features(given.features);
    let limits = entitlement::limits(given.limits, &mut faults);
    let paid_through_at = match &request.paid_through_at {
        None => None,
        Some(at) => faults.check(
            "paid_through_at",
            wire::time(at).ok_or("is no time we can keep"),
        ),
    };
    // The rules say so too; a zero would make every later write a repeat of it.
    if request.version < 1 || request.fence < 1 {
        faults.add("version", "version and fence begin at 1");
    }
    faults.finish()?;
    Ok(Put {
        entitlements: Entitlements {
            features,
            limits,
            subscription_id: wire::id("subscription_id", &request.subscription_id)?,
            plan_id: wire::id("plan_id", &request.plan_id)?,
            subscription_status: request.subscription_status,
            paid_through_at,
        },
        write: Write {
            version: request.version,
            saga: wire::id("saga_id", &request.saga_id)?,
            step: request.step,
            fence: request.fence,
            undo: request.undo,
        },
    })
}

/// A client that never subscribed has no features and no limits.
fn answer(client_id: String, stored: Option<Stored>) -> proto::ClientEntitlements {
    let Some(stored) = stored else {
        return proto::ClientEntitlements {
            client_id: Some(client_id),
            entitlements: Some(common::Entitlements::default()),
            ..Default::default()
        };
    };
    let what = stored.entitlements;
    proto::ClientEntitlements {
        client_id: Some(client_id),
        entitlements: Some(common::Entitlements {
            features: what.features,
            limits: entitlement::limits_answer(what.limits),
        }),
        subscription_id: Some(what.subscription_id.to_string()),
        plan_id: Some(what.plan_id.to_string()),
        subscription_status: Some(what.subscription_status),
        paid_through_at: what.paid_through_at.map(wire::timestamp),
        version: Some(stored.version),
        updated_at: Some(wire::timestamp(stored.updated_at)),
    }
}
