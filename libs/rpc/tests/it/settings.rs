//! All roles of one process read their own ends from one configuration, and a role alone needs only its own.

use std::collections::BTreeSet;
use std::time::Duration;

use mainstay_rpc::config::{PEERS, Role, TRUSTED_KEYS, role, url};
use mainstay_rpc::{ServiceKey, ServiceName};
use mainstay_runtime::config::{Config, Group, Sources};

fn sources(keys: &[(ServiceName, String)]) -> Sources {
    let trusted: Vec<String> = keys
        .iter()
        .map(|(service, secret)| {
            format!(
                "{service}={}",
                ServiceKey::from_hex(*service, secret)
                    .expect("a key")
                    .public_hex()
            )
        })
        .collect();
    let mut sources = Sources::none().supply(&TRUSTED_KEYS, trusted.join(","), "test");
    for (service, secret) in keys {
        sources = sources.supply(&role(*service).0.key, secret, "test");
        if let Some(address) = url(*service) {
            sources = sources.supply(address, "http://127.0.0.1:1", "test");
        }
    }
    sources
}

fn keys() -> Vec<(ServiceName, String)> {
    let secret = |service: ServiceName| format!("{:02x}", service as u8 + 1).repeat(32);
    ServiceName::ALL
        .into_iter()
        .map(|service| (service, secret(service)))
        .collect()
}

#[test]
fn every_role_reads_its_own_end() {
    let groups: Vec<&'static Group> = ServiceName::ALL
        .into_iter()
        .map(|service| role(service).1)
        .chain([&PEERS])
        .collect();
    let names: Vec<&str> = groups
        .iter()
        .flat_map(|group| group.settings)
        .map(|setting| setting.name)
        .collect();
    assert_eq!(
        names.iter().collect::<BTreeSet<_>>().len(),
        names.len(),
        "no name stands for two things"
    );
    let config = Config::load(&groups, &groups, sources(&keys())).expect("valid");
    let mut listening = BTreeSet::new();
    for service in ServiceName::ALL {
        let role = Role::read(&config, service, Duration::from_secs(9));
        assert_eq!((role.me, role.key.service()), (service, service));
        assert_eq!(
            role.trusted.services().collect::<BTreeSet<_>>().len(),
            ServiceName::ALL.len()
        );
        assert_eq!(role.limits.grace, Duration::from_secs(9));
        listening.insert(role.listen.port());
    }
    assert_eq!(
        listening.len(),
        ServiceName::ALL.len(),
        "each has its own port"
    );
    assert_eq!(config.unread(), Vec::<&str>::new());
}

#[test]
fn a_role_without_its_key_does_not_start_and_says_which_is_missing() {
    let (settings, billing) = role(ServiceName::Billing);
    let without: Vec<_> = keys()
        .into_iter()
        .filter(|(service, _)| *service != ServiceName::Billing)
        .collect();
    let refused = Config::load(&[billing, &PEERS], &[billing, &PEERS], sources(&without))
        .expect_err("no key");
    let names: Vec<&str> = refused
        .problems()
        .iter()
        .map(|problem| problem.name.as_str())
        .collect();
    assert_eq!(names, ["MAINSTAY_BILLING_GRPC_URL", settings.key.name]);
}

#[test]
fn a_trusted_key_that_is_none_is_refused_before_anything_starts() {
    let mut keys = keys();
    keys.truncate(1);
    let wrong = sources(&keys).give(&TRUSTED_KEYS, "identity=00ff,sales=1", "test");
    let refused = Config::load(&[&PEERS], &[&PEERS], wrong).expect_err("not keys");
    assert!(
        refused.to_string().contains("MAINSTAY_TRUSTED_KEYS"),
        "{refused}"
    );
}
