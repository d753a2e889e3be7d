//! Configuration is judged as a whole, says where values come from, and never shows a secret.
//!
//! Deliberately absent: the process's environment. Tests give an explicit map.

use std::time::Duration;

use mainstay_runtime::config::{
    Config, ConfigError, Environment, Group, Kind, Setting, Sources, common, render_reference,
};
use secrecy::{ExposeSecret, SecretString};

const DATABASE_URL: Setting = Setting::new(
    "MAINSTAY_BILLING_DATABASE_URL",
    "billing's database, as its app role",
    Kind::PostgresUrl,
);
const STRIPE_KEY: Setting = Setting::new(
    "STRIPE_SECRET_KEY",
    "the key that calls Stripe",
    Kind::Secret { min_len: 12 },
)
.secret();
const STRIPE_BASE: Setting = Setting::new("STRIPE_API_BASE", "where Stripe answers", Kind::HttpUrl)
    .default("https://api.stripe.com")
    .real_provider_in_production();
const RETRIES: Setting = Setting::new(
    "MAINSTAY_BILLING_RETRIES",
    "how often a call is repeated",
    Kind::Integer { min: 0, max: 9 },
)
.default("3");
const REGIONS: Setting =
    Setting::new("MAINSTAY_BILLING_REGIONS", "where it is sold", Kind::List).default("");
const MODE: Setting = Setting::new(
    "MAINSTAY_BILLING_MODE",
    "which provider is paid through",
    Kind::OneOf(&["stripe", "none"]),
)
.default("none");
const NEEDED_WITH_STRIPE: Setting = Setting::new(
    "STRIPE_WEBHOOK_SECRET",
    "verifies Stripe's webhooks",
    Kind::Secret { min_len: 12 },
)
.secret()
.only_when("MAINSTAY_BILLING_MODE", &["stripe"]);

static BILLING: Group = Group {
    name: "billing",
    about: "What billing reads.",
    settings: &[
        DATABASE_URL,
        STRIPE_KEY,
        STRIPE_BASE,
        RETRIES,
        REGIONS,
        MODE,
        NEEDED_WITH_STRIPE,
    ],
};
static OTHER: Group = Group {
    name: "other",
    about: "What another role reads.",
    settings: &[Setting::new(
        "MAINSTAY_OTHER_THING",
        "another role's",
        Kind::Bool,
    )],
};

const RIGHT: &[(&str, &str)] = &[
    ("MAINSTAY_BASE_URL", "https://api.agency.test/"),
    (
        "MAINSTAY_BILLING_DATABASE_URL",
        "postgres://app:hunter22@db:5432/mainstay",
    ),
    ("STRIPE_SECRET_KEY", "sk_live_51HkT8vQ2"),
];

fn load(environment: &[(&str, &str)], file: &str) -> Result<Config, ConfigError> {
    let sources = Sources::none()
        .with_environment(
            RIGHT
                .iter()
                .chain(environment)
                .map(|&(name, value)| (name, value)),
        )
        .with_file("mainstay.toml", file);
    Config::load(
        &[&common::GROUP, &BILLING, &OTHER],
        &[&common::GROUP, &BILLING],
        sources,
    )
}

fn wrong(result: Result<Config, ConfigError>) -> Vec<(String, String)> {
    let error = result.expect_err("the configuration is wrong");
    error
        .problems()
        .iter()
        .map(|problem| (problem.name.clone(), problem.to_string()))
        .collect()
}

#[test]
fn every_problem_is_named_at_once_with_what_it_is_for() {
    let sources = Sources::none()
        .with_environment([
            ("MAINSTAY_BILLING_DATABASE_URL", "mysql://db"),
            ("MAINSTAY_BILLING_RETRIES", "10"),
            ("MAINSTAY_BILING_REGIONS", "eu"),
            ("MAINSTAY_OTHER_THING", "true"),
            ("STRIPE_API_BASE", "http://127.0.0.1:1/stripe"),
            ("MAINSTAY_CLOCK_OFFSET_SECONDS", "60"),
        ])
        .with_file("mainstay.toml", "surprise = 1\n[billing]\nregions = [1]\n");
    let problems = wrong(Config::load(
        &[&common::GROUP, &BILLING, &OTHER],
        &[&common::GROUP, &BILLING],
        sources,
    ));
    let names: Vec<&str> = problems.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(
        names,
        [
            "MAINSTAY_BASE_URL",
            "MAINSTAY_BILING_REGIONS",
            "MAINSTAY_BILLING_DATABASE_URL",
            "MAINSTAY_BILLING_REGIONS",
            "MAINSTAY_BILLING_RETRIES",
            "MAINSTAY_CLOCK_OFFSET_SECONDS",
            "STRIPE_API_BASE",
            "STRIPE_SECRET_KEY",
            "surprise",
        ]
    );
    let text = |name: &str| {
        problems
            .iter()
            .find(|(n, _)| n == name)
            .map(|(_, text)| text.clone())
            .unwrap_or_default()
    };
    assert!(text("STRIPE_SECRET_KEY").contains("is missing"));
    assert!(text("STRIPE_SECRET_KEY").contains("the key that calls Stripe"));
    assert!(text("MAINSTAY_BILING_REGIONS").contains("did you mean MAINSTAY_BILLING_REGIONS?"));
    assert!(text("MAINSTAY_BILLING_RETRIES").contains("a whole number from 0 to 9"));
}

#[test]
fn the_environment_wins_over_the_file_over_the_launcher_over_the_default() {
    let value = |environment: &[(&str, &str)], file: &str| {
        let sources = Sources::none()
            .with_environment(
                RIGHT
                    .iter()
                    .chain(environment)
                    .map(|&(name, value)| (name, value)),
            )
            .with_file("mainstay.toml", file)
            .supply(&RETRIES, "5", "mainstay up");
        let config = Config::load(
            &[&common::GROUP, &BILLING],
            &[&common::GROUP, &BILLING],
            sources,
        )
        .expect("valid");
        let effective = config.effective();
        let retries = effective
            .iter()
            .find(|entry| entry.name == RETRIES.name)
            .expect("declared");
        (config.get::<u32>(&RETRIES), retries.source.clone())
    };
    assert_eq!(value(&[], ""), (5, "mainstay up".to_owned()));
    assert_eq!(
        value(&[], "[billing]\nretries = 6"),
        (6, "mainstay.toml: billing.retries".to_owned())
    );
    assert_eq!(
        value(&[], "billing_retries = 6"),
        (6, "mainstay.toml: billing_retries".to_owned())
    );
    assert_eq!(
        value(&[("MAINSTAY_BILLING_RETRIES", "7")], "billing_retries = 6"),
        (7, "environment".to_owned())
    );
    assert_eq!(load(&[], "").expect("valid").get::<u32>(&RETRIES), 3);
}

#[test]
fn secrets_are_never_shown() {
    let config = load(&[], "").expect("valid");
    let shown = format!("{:?} {config:?}", config.effective());
    assert!(!shown.contains("sk_live"), "{shown}");
    assert!(!shown.contains("hunter22"), "{shown}");
    assert!(shown.contains("(secret)"));
    assert_eq!(
        config.get::<SecretString>(&STRIPE_KEY).expose_secret(),
        "sk_live_51HkT8vQ2"
    );

    let refused = wrong(load(&[("STRIPE_SECRET_KEY", "tiny-key")], ""));
    assert!(!format!("{refused:?}").contains("tiny-key"), "{refused:?}");
    let refused = wrong(load(&[], "stripe_webhook_secret = \"not closed"));
    assert!(
        !format!("{refused:?}").contains("not closed"),
        "{refused:?}"
    );
}

#[test]
fn production_is_the_default_and_refuses_simulators_and_a_shifted_clock() {
    assert_eq!(
        load(&[], "").expect("valid").environment(),
        Environment::Production
    );
    let simulator = [
        ("STRIPE_API_BASE", "http://127.0.0.1:9/stripe"),
        ("MAINSTAY_CLOCK_OFFSET_SECONDS", "-5"),
    ];
    let names: Vec<String> = wrong(load(&simulator, ""))
        .into_iter()
        .map(|(name, _)| name)
        .collect();
    assert_eq!(names, ["MAINSTAY_CLOCK_OFFSET_SECONDS", "STRIPE_API_BASE"]);
    let development = [
        simulator[0],
        simulator[1],
        ("MAINSTAY_ENVIRONMENT", "development"),
    ];
    assert!(load(&development, "").is_ok());
}

#[test]
fn a_setting_may_depend_on_another() {
    let names: Vec<String> = wrong(load(&[("MAINSTAY_BILLING_MODE", "stripe")], ""))
        .into_iter()
        .map(|(n, _)| n)
        .collect();
    assert_eq!(names, ["STRIPE_WEBHOOK_SECRET"]);
    assert_eq!(
        load(&[], "")
            .expect("valid")
            .get::<Option<String>>(&NEEDED_WITH_STRIPE),
        None
    );
}

#[test]
fn values_are_read_as_their_types_and_what_nobody_reads_is_known() {
    let config = load(
        &[
            ("MAINSTAY_BILLING_REGIONS", "eu, us"),
            ("MAINSTAY_ENVIRONMENT", "development"),
        ],
        "",
    )
    .expect("valid");
    let common = common::Common::read(&config, "mainstay-billing");
    assert_eq!(common.base_url, "https://api.agency.test");
    assert_eq!(common.shutdown_grace, Duration::from_secs(25));
    assert_eq!(config.get::<Vec<String>>(&REGIONS), ["eu", "us"]);
    config.get::<String>(&DATABASE_URL);
    let mut unread = config.unread();
    unread.sort_unstable();
    assert_eq!(
        unread,
        [
            "MAINSTAY_BILLING_MODE",
            "MAINSTAY_BILLING_RETRIES",
            "STRIPE_API_BASE",
            "STRIPE_SECRET_KEY",
            "STRIPE_WEBHOOK_SECRET"
        ]
    );
}

#[test]
fn the_reference_names_every_setting() {
    let page = render_reference(&[&common::GROUP, &BILLING]);
    for setting in common::GROUP.settings.iter().chain(BILLING.settings) {
        assert!(page.contains(setting.name), "{}", setting.name);
    }
    assert!(page.contains("required when `MAINSTAY_BILLING_MODE` is stripe"));
}
