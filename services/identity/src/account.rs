//! Who the caller is: `GET /v1/me`.
//! Deliberately absent: permissions looked up anew. It tells what the caller's token says, which is what is enforced.

use mainstay_proto::identity::v1::{self as proto, account_service_server::AccountService};
use mainstay_rpc::{Actor, Context, Problem, open};
use mainstay_types::MemberId;
use tonic::{Request, Response, Status};

use crate::{Identity, agency, api_key, failure, member, wire};

#[tonic::async_trait]
impl AccountService for Identity {
    async fn get_me(
        &self,
        request: Request<proto::GetMeRequest>,
    ) -> Result<Response<proto::Me>, Status> {
        let (ctx, _) = open(request)?;
        let me = me(self, &ctx).await.map_err(failure::database)?;
        Ok(Response::new(
            me.ok_or_else(|| Problem::not_found("agency"))?,
        ))
    }
}

async fn me(identity: &Identity, ctx: &Context) -> mainstay_db::Result<Option<proto::Me>> {
    let scope = ctx.agency_scope();
    let mut tx = identity.database.agency(&scope).await?;
    let Some(agency) = agency::get(tx.conn(), scope.agency).await? else {
        return Ok(None);
    };
    let owner: Option<MemberId> = match &ctx.actor {
        Actor::Member { member, .. } => Some(*member),
        Actor::ApiKey { key } => api_key::sql::get(tx.conn(), scope.agency, *key)
            .await?
            .and_then(|key| key.member_id),
        Actor::Service(_) | Actor::Anonymous => None,
    };
    let owner = match owner {
        Some(member) => member::sql::get(tx.conn(), scope.agency, member).await?,
        None => None,
    };
    tx.commit().await?;
    let grants = ctx.grants().iter().map(|grant| proto::Grant {
        permissions: grant.permissions.clone(),
        client_ids: grant
            .clients
            .iter()
            .flatten()
            .map(ToString::to_string)
            .collect(),
        all_clients: Some(grant.clients.is_none()),
    });
    Ok(Some(proto::Me {
        principal: Some(ctx.principal()),
        agency: Some(proto::Agency {
            id: Some(agency.id.to_string()),
            name: Some(agency.name),
            created_at: Some(wire::timestamp(agency.created_at)),
        }),
        person: owner.map(|member| proto::Person {
            id: Some(member.person_id.to_string()),
            name: Some(member.name),
            email: Some(member.email),
        }),
        grants: grants.collect(),
    }))
}
