//! The permission check against a naive one, on random roles and all declared methods.

use std::time::Duration;

use mainstay_proto::options::v1::{AccessKind, Scope};
use mainstay_rpc::{
    Actor, Claims, ErrorReason, Grant, Granted, MethodInfo, Schema, ServiceKey, ServiceName,
    Visible, authorise,
};
use mainstay_types::{AgencyId, ApiKeyId, ClientId};
use rand::rngs::SmallRng;
use rand::{Rng, RngExt, SeedableRng};

const CASES: u32 = 100_000;

/// What the check must answer, written for being obviously right: every single pair of client and permission.
fn naive(
    claims: &Claims,
    method: &MethodInfo,
    clients: &[ClientId],
    client: Option<ClientId>,
) -> Result<Option<Vec<ClientId>>, ErrorReason> {
    let may = |client: &ClientId| {
        claims.grants.iter().any(|grant| {
            let reaches = match &grant.clients {
                None => true,
                Some(some) => some.contains(client),
            };
            reaches && grant.permissions.contains(&method.access.permission)
        })
    };
    let everywhere = claims.grants.iter().any(|grant| {
        grant.clients.is_none() && grant.permissions.contains(&method.access.permission)
    });
    let somewhere = claims
        .grants
        .iter()
        .any(|grant| grant.permissions.contains(&method.access.permission));
    match method.scope() {
        Scope::Client => {
            let client = client.ok_or(ErrorReason::NotFound)?;
            let sees = claims.grants.iter().any(|grant| {
                grant
                    .clients
                    .as_ref()
                    .is_none_or(|some| some.contains(&client))
            });
            match (sees, may(&client)) {
                (false, _) => Err(ErrorReason::NotFound),
                (true, false) => Err(ErrorReason::PermissionDenied),
                (true, true) => Ok(Some(vec![client])),
            }
        }
        Scope::Agency if everywhere => Ok(None),
        Scope::AgencyVisible if everywhere => Ok(None),
        Scope::AgencyVisible if somewhere => Ok(Some(
            clients
                .iter()
                .filter(|client| may(client))
                .copied()
                .collect(),
        )),
        Scope::Agency | Scope::AgencyVisible | Scope::Unspecified => {
            Err(ErrorReason::PermissionDenied)
        }
        Scope::Self_ => match claims.grants.iter().any(|grant| grant.clients.is_none()) {
            true => Ok(None),
            false => {
                let reached = |client: &&ClientId| {
                    claims
                        .grants
                        .iter()
                        .any(|grant| grant.clients.iter().flatten().any(|c| c == *client))
                };
                Ok(Some(clients.iter().filter(reached).copied().collect()))
            }
        },
    }
}

fn pick<'a, T>(rng: &mut impl Rng, from: &'a [T]) -> &'a T {
    &from[rng.random_range(0..from.len())]
}

#[test]
fn the_permission_check_answers_as_the_naive_one_does() {
    let seed: u64 = rand::random();
    println!("seed {seed}");
    let mut rng = SmallRng::seed_from_u64(seed);
    let methods: Vec<&MethodInfo> = Schema::mainstay()
        .methods()
        .iter()
        .filter(|method| method.access_kind() == AccessKind::Actor)
        .collect();
    let permissions: Vec<&str> = methods
        .iter()
        .map(|method| method.access.permission.as_str())
        .filter(|p| !p.is_empty())
        .collect();
    let mut clients: Vec<ClientId> = (0..6).map(|_| ClientId::generate()).collect();
    clients.sort_unstable();
    let key = ServiceKey::generate(ServiceName::Identity);
    let (mut granted, mut refused) = (0, 0);
    for _ in 0..CASES / 20 {
        let grants = (0..rng.random_range(0..4)).map(|_| {
            let permissions = (0..rng.random_range(0..permissions.len()))
                .map(|_| (*pick(&mut rng, &permissions)).to_owned())
                .collect();
            let some = (0..rng.random_range(0..4))
                .map(|_| *pick(&mut rng, &clients))
                .collect();
            Grant {
                permissions,
                clients: rng.random_bool(0.7).then_some(some),
            }
        });
        let actor = Actor::ApiKey {
            key: ApiKeyId::generate(),
        };
        let (_, claims) = key.actor_token(
            &actor,
            AgencyId::generate(),
            grants.collect(),
            0,
            Duration::from_secs(1),
        );
        for _ in 0..20 {
            let method = *pick(&mut rng, &methods);
            let client = rng.random_bool(0.9).then(|| *pick(&mut rng, &clients));
            let expected = naive(&claims, method, &clients, client);
            let visible = |visible: Visible| match visible {
                Visible::All => None,
                Visible::Only(only) => Some(only),
            };
            let answered = match authorise(&claims, method, client) {
                Ok(Granted::Client(tenant)) => {
                    assert_eq!(tenant.agency, claims.agy);
                    Ok(Some(vec![tenant.client]))
                }
                Ok(Granted::Agency(scope)) => {
                    assert_eq!(scope.agency, claims.agy);
                    Ok(visible(scope.visible))
                }
                Ok(other) => panic!("an actor was granted {other:?}"),
                Err(problem) => Err(problem.reason()),
            };
            assert_eq!(
                answered, expected,
                "seed {seed}: {} {client:?} {claims:?}",
                method.path
            );
            if answered.is_ok() {
                granted += 1
            } else {
                refused += 1
            }
        }
    }
    assert!(
        granted > CASES / 20 && refused > CASES / 20,
        "the cases say something: {granted} granted, {refused} refused"
    );
}
