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
