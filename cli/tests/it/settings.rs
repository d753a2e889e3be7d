//! Settings are judged whole, and every one of them is documented.

use crate::{mainstay, stderr, stdout};

#[test]
fn everything_wrong_is_named_at_once() {
    let environment = [
        ("MAINSTAY_BASE_URL", "not a url"),
        ("MAINSTAY_SHUTDOWN_GRACE_SECONDS", "soon"),
        ("MAINSTAY_BILING_SERVICE_KEY", "typo"),
    ];
    let output = mainstay(&["config", "check", "--role", "billing"], &environment);
    let said = stderr(&output);
    assert_eq!(output.status.code(), Some(1));
    for name in environment.map(|(name, _)| name) {
        assert!(said.contains(name), "{name} is not named:\n{said}");
    }
    for missing in [
        "MAINSTAY_BILLING_DATABASE_URL",
        "MAINSTAY_TRUSTED_KEYS",
        "STRIPE_SECRET_KEY",
    ] {
        assert!(said.contains(missing), "{missing} is not named:\n{said}");
    }
}

#[test]
fn the_reference_of_settings_is_what_the_binary_reads() {
    let page = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/configuration.md");
    let written = std::fs::read_to_string(&page).unwrap_or_default();
    let output = mainstay(&["config", "reference"], &[]);
    assert!(output.status.success(), "{}", stderr(&output));
    assert_eq!(
        written,
        stdout(&output),
        "docs/configuration.md is not up to date: cargo run -q -- config reference > docs/configuration.md"
    );
}

#[test]
fn each_setting_is_declared_once() {
    let reference = stdout(&mainstay(&["config", "reference"], &[]));
    let mut names: Vec<&str> = reference
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split('`').next())
        .collect();
    names.sort_unstable();
    let all = names.len();
    names.dedup();
    assert_eq!(names.len(), all, "a setting is declared by two groups");
    assert!(all > 40, "{reference}");
}

#[test]
fn the_keys_that_are_made_for_a_new_installation_are_all_that_it_needs() {
    let made = stdout(&mainstay(&["config", "keys"], &[]));
    let made: Vec<(&str, &str)> = made
        .lines()
        .filter_map(|line| line.split_once('='))
        .collect();
    for role in [
        "identity",
        "billing",
        "messaging",
        "escalation",
        "integrations",
        "gateway",
    ] {
        let bare = stderr(&mainstay(&["config", "check", "--role", role], &[]));
        let needed: Vec<(&str, &str)> = made
            .iter()
            .copied()
            .filter(|(name, _)| bare.contains(name))
            .collect();
        assert!(!needed.is_empty(), "{role} needs no key:\n{bare}");
        let said = stderr(&mainstay(&["config", "check", "--role", role], &needed));
        for line in said.lines().filter(|line| line.contains("MAINSTAY_")) {
            assert!(
                !line.contains("_KEY") || line.contains("STRIPE"),
                "{role} lacks a key: {line}"
            );
        }
    }
}
