//! The same walls past the gateway: every RPC of every service, called directly, with no signature, with a forged one,
//! with that of a service that is not on its list, and with foreign ids.

use anyhow::{Context as _, ensure};
use mainstay_proto::options::v1::AccessKind;
use mainstay_rpc::{ErrorReason, MethodInfo, Schema, ServiceName};
use mainstay_tests::{
    Platform, World, grpc,
    sample::{self, Ids},
    snapshot, world,
};
use mainstay_types::AgencyId;
use prost_reflect::DynamicMessage;
use tonic::Code;

fn empty(method: &MethodInfo) -> DynamicMessage {
    DynamicMessage::new(method.input.clone())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_rpc_answers_a_stranger_or_a_service_that_is_not_on_its_list() -> anyhow::Result<()> {
    let platform = Platform::start("grpc-walls").await?;
    let gateway = grpc::channels(&platform, ServiceName::Gateway)?;
    let forged = grpc::forged(&platform, ServiceName::Gateway)?;
    let (mut tried, mut open_to_all) = (0, Vec::new());
    for method in Schema::mainstay().methods() {
        // Forged signature: nobody.
        let ended = grpc::call(&forged, method, &empty(method), None).await?;
        ensure!(
            ended.code == Code::Unauthenticated,
            "{}: forged: {ended:?}",
            method.path
        );
        tried += 1;
        if method.access_kind() == AccessKind::None {
            // For everyone, by whatever service of ours; the routes of these are looked over below.
            open_to_all.push(method.path.clone());
            continue;
        }
        if method.access_kind() == AccessKind::Link {
            // Whoever has a link; nobody has made one.
            let ended = grpc::call(&gateway, method, &empty(method), None).await?;
            ensure!(
                ended.code == Code::InvalidArgument,
                "{}: no link: {ended:?}",
                method.path
            );
            tried += 1;
            continue;
        }
        if method.is_public() {
            // A service of ours without an actor is not an actor.
            let ended = grpc::call(&gateway, method, &empty(method), None).await?;
            ensure!(
                ended.code == Code::Unauthenticated,
                "{}: no actor: {ended:?}",
                method.path
            );
            let ended = grpc::call(
                &gateway,
                method,
                &empty(method),
                Some("eyJhbGciOiJub25lIn0.e30."),
            )
            .await?;
            ensure!(
                ended.code == Code::Unauthenticated,
                "{}: unsigned actor: {ended:?}",
                method.path
            );
            tried += 2;
            continue;
        }
        for caller in ServiceName::ALL {
            if method
                .access
                .callers
                .iter()
                .any(|listed| listed == caller.as_str())
            {
                continue;
            }
            let channels = grpc::channels(&platform, caller)?;
            let ended = grpc::call(&channels, method, &empty(method), None).await?;
            ensure!(
                matches!(ended.code, Code::PermissionDenied | Code::Unauthenticated),
                "{} answered {caller}, which is not on its list: {ended:?}",
                method.path
            );
            tried += 1;
        }
    }
    open_to_all.sort_unstable();
    ensure!(
        open_to_all
            == [
                "/mainstay.identity.v1.SignInService/GetKeySet",
                "/mainstay.identity.v1.SignInService/RefreshSession",
                "/mainstay.identity.v1.SignInService/RequestCode",
                "/mainstay.identity.v1.SignInService/VerifyCode",
            ],
        "another method is open to everyone: {open_to_all:?}"
    );
    println!(
        "{tried} calls refused over {} methods",
        Schema::mainstay().methods().len()
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_rpc_crosses_from_one_tenant_to_another() -> anyhow::Result<()> {
    let platform = Platform::start("grpc-tenants").await?;
    let here = World::build(
        &platform,
        platform.dev_text("/agency_id")?,
        platform.owner()?,
        "here",
    )
    .await?;
    let (agency, owner) = world::second_agency(&platform, "there").await?;
    let there = World::build(&platform, &agency, owner, "there").await?;
    let gateway = grpc::channels(&platform, ServiceName::Gateway)?;
    let foreign_agency: AgencyId = there.agency.parse()?;
    let before =
        snapshot::agency_rows_at_rest(platform.dev_text("/database_url")?, foreign_agency).await?;

    let mut cases = 0;
    for method in Schema::mainstay()
        .methods()
        .iter()
        .filter(|method| method.is_public())
    {
        let slots = sample::slots(method);
        let own: Ids = slots
            .iter()
            .map(|slot| (slot.field.clone(), here.first[&slot.resource].clone()))
            .collect();
        for slot in &slots {
            let nothing = sample::nonexistent(&slot.resource)?;
            for foreign in [&there.first[&slot.resource], &there.second[&slot.resource]] {
                let token =
                    grpc::actor_token(&gateway, platform.dev_text("/owner/api_key")?).await?;
                let ended = async |id: &str| -> anyhow::Result<grpc::Ended> {
                    let mut ids = own.clone();
                    ids.insert(slot.field.clone(), id.to_owned());
                    let request = sample::request(
                        method,
                        &method.bindings[0],
                        &ids,
                        &format!("direct{cases}"),
                    );
                    let (method, message) = grpc::message(&request)?;
                    let mut ended = grpc::call(&gateway, method, &message, Some(&token)).await?;
                    ended.said = ended.said.replace(id, "<id>");
                    Ok(ended)
                };
                let (of_foreign, of_nothing) = (ended(foreign).await?, ended(&nothing).await?);
                ensure!(
                    of_foreign == of_nothing,
                    "{} {}: {of_foreign:?} is not {of_nothing:?}",
                    method.path,
                    slot.field
                );
                let in_path = method.bindings[0].path_fields.contains(&slot.field);
                ensure!(
                    !in_path || of_foreign.reason == Some(ErrorReason::NotFound),
                    "{} {}: {of_foreign:?}",
                    method.path,
                    slot.field
                );
                cases += 1;
            }
        }
    }
    let after = snapshot::agency_rows(platform.dev_text("/database_url")?, foreign_agency).await?;
    for (table, digest) in &before {
        let now = after.get(table).context("the table stands")?;
        ensure!(
            now == digest,
            "{table} of the other agency changed: {digest} → {now}"
        );
    }
    println!("{cases} foreign ids answered as nonexistent by the services themselves");
    Ok(())
}
