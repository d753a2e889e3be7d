//! Tenants are walls: every REST route, tried with another client's and another agency's id in every place
//! that takes one, answers exactly as for a well-formed id that does not exist, and moves no foreign row.

use anyhow::{Context as _, ensure};
use mainstay_proto::options::v1::AccessKind;
use mainstay_tests::{
    Platform, Rest, World,
    sample::{self, Ids, Slot},
    snapshot, world,
};
use mainstay_transcode::{MethodInfo, Schema};
use mainstay_types::AgencyId;
use serde_json::json;

/// Fills every slot from a world.
fn fill(slots: &[Slot], ids: &Ids) -> anyhow::Result<Ids> {
    slots
        .iter()
        .map(|slot| {
            let id = ids.get(&slot.resource).with_context(|| {
                format!(
                    "the worlds hold no {}: teach tests/src/world.rs to make one",
                    slot.resource
                )
            })?;
            Ok((slot.field.clone(), id.clone()))
        })
        .collect()
}

/// One request with `id` in `slot` and own ids elsewhere.
async fn ask(
    rest: &Rest,
    method: &MethodInfo,
    own: &Ids,
    slot: &Slot,
    id: &str,
    unique: &str,
) -> anyhow::Result<mainstay_tests::Answer> {
    let binding = method.bindings.first().context("a routed method")?;
    let mut ids = own.clone();
    ids.insert(slot.field.clone(), id.to_owned());
    let request = sample::request(method, binding, &ids, unique);
    rest.send(&request.verb, &request.path, request.body.as_ref(), None)
        .await
}

/// Tries one foreign id in one slot and holds the answer against that for nothing.
async fn hold_against_nothing(
    rest: &Rest,
    method: &MethodInfo,
    own: &Ids,
    slot: &Slot,
    foreign: &str,
    (case, limited): (usize, bool),
) -> anyhow::Result<()> {
    let nothing = sample::nonexistent(&slot.resource)?;
    let unique = format!("case{case}");
    let of_foreign = ask(rest, method, own, slot, foreign, &unique).await?;
    let of_nothing = ask(rest, method, own, slot, &nothing, &unique).await?;
    let (left, right) = (
        of_foreign.without(&[foreign]),
        of_nothing.without(&[&nothing]),
    );
    ensure!(
        left == right,
        "{} {}={foreign}: foreign\n  {left:?}\nis not answered as nonexistent\n  {right:?}",
        method.path,
        slot.field
    );
    ensure!(
        left.status < 500,
        "{} {}: {left:?}",
        method.path,
        slot.field
    );
    let in_path = method.bindings[0].path_fields.contains(&slot.field);
    // Somebody without the permission is told that, the same for every id.
    let lacks = left.code() == "permission_denied" && limited;
    ensure!(
        !in_path || left.status == 404 || lacks,
        "{} {}: {left:?}",
        method.path,
        slot.field
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_request_crosses_from_one_tenant_to_another() -> anyhow::Result<()> {
    let platform = Platform::start("walls").await?;
    let here = World::build(
        &platform,
        platform.dev_text("/agency_id")?,
        platform.owner()?,
        "here",
    )
    .await?;
    let (agency, owner) = world::second_agency(&platform, "there").await?;
    let there = World::build(&platform, &agency, owner, "there").await?;

    // A key that may do everything a client-scoped key can, for the first client only.
    let permissions = here.owner.get("/v1/permissions").await?.expect(200)?;
    let client_permissions: Vec<_> = permissions["data"]
        .as_array()
        .context("permissions")?
        .iter()
        .filter(|permission| permission["scope"] == "client")
        .map(|permission| permission["name"].clone())
        .collect();
    ensure!(client_permissions.len() >= 4, "{permissions}");
    let limited = here
        .owner
        .post("/v1/api_keys", &json!({"name": "limited", "client_id": here.first["client"], "permissions": client_permissions}))
        .await?
        .expect(201)?;
    let limited = platform.with_key(&world::text(&limited, "secret")?)?;

    let database = platform.dev_text("/database_url")?;
    let foreign_agency: AgencyId = there.agency.parse()?;
    let before = snapshot::agency_rows_at_rest(database, foreign_agency).await?;
    ensure!(
        before.len() >= 10,
        "the snapshot sees too little: {before:?}"
    );

    let mut cases = 0;
    for method in Schema::mainstay()
        .methods()
        .iter()
        .filter(|method| method.is_public())
    {
        let slots = sample::slots(method);
        let own = fill(&slots, &here.first)?;
        for slot in &slots {
            for foreign in [&there.first[&slot.resource], &there.second[&slot.resource]] {
                cases += 1;
                hold_against_nothing(&here.owner, method, &own, slot, foreign, (cases, false))
                    .await?;
                cases += 1;
                hold_against_nothing(&limited, method, &own, slot, foreign, (cases, true)).await?;
            }
            let neighbour = &here.second[&slot.resource];
            if method.client_field.is_some() && *neighbour != here.first[&slot.resource] {
                cases += 1;
                hold_against_nothing(&limited, method, &own, slot, neighbour, (cases, true))
                    .await?;
            }
        }
    }
    let after = snapshot::agency_rows(database, foreign_agency).await?;
    for (table, digest) in &before {
        ensure!(
            after.get(table) == Some(digest),
            "{table} of the other agency changed: {digest} → {:?}",
            after.get(table)
        );
    }
    println!(
        "{cases} foreign ids answered as nonexistent; {} tables of the other agency unmoved",
        before.len()
    );

    // Teeth: the same requests with own ids are not refused as unknown, so the matrix asked real questions.
    let mut methods: Vec<&MethodInfo> = Schema::mainstay().methods().iter().collect();
    // Last what ends that which the others name.
    let ends = ["DeactivateMember", "OffboardClient", "GetOffboarding"];
    methods.sort_by_key(|method| ends.iter().position(|name| *name == method.name));
    for method in methods.into_iter().filter(|method| method.is_public()) {
        let slots = sample::slots(method);
        let own = fill(&slots, &here.first)?;
        let request = sample::request(method, &method.bindings[0], &own, "teeth");
        let answer = here
            .owner
            .send(&request.verb, &request.path, request.body.as_ref(), None)
            .await?;
        // What is named by a code of people's making, or by a provider's id, is in no world.
        let paths = &method.bindings[0].path_fields;
        let by_name = paths.iter().any(|field| !own.contains_key(field));
        // A code or a token that nobody was given opens nothing, whoever asks.
        let by_secret = method.access_kind() == AccessKind::None && answer.status == 401;
        ensure!(
            by_secret
                || (by_name && answer.status == 404)
                || !matches!(answer.status, 400 | 401 | 403 | 404 | 405 | 415)
                    && answer.status < 500,
            "{}: the sample {request:?} is refused for another reason: {answer:?}",
            method.path
        );
    }
    Ok(())
}
