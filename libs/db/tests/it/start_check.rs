//! A service refuses to start on a role for which the walls would not hold, and names everything that is wrong.

use std::time::Duration;

use mainstay_db::{Database, DatabaseConfig, Error};
use mainstay_testkit::TestDatabase;

async fn problems(config: DatabaseConfig) -> String {
    match Database::connect(&config).await {
        Err(error @ Error::Refused(_)) => error.to_string(),
        Err(other) => panic!("{other:?}"),
        Ok(_) => panic!("connected"),
    }
}

#[tokio::test]
async fn its_own_roles_are_taken() {
    let test = TestDatabase::new().await;
    for service in [
        "identity",
        "billing",
        "messaging",
        "escalation",
        "integrations",
    ] {
        test.database(service).await.ping().await.unwrap();
    }
}

#[tokio::test]
async fn superusers_owners_and_strangers_are_refused_all_at_once() {
    let test = TestDatabase::new().await;
    let good = test.config("billing");
    let text = problems(DatabaseConfig {
        app_url: test.admin_url(),
        worker_url: test.migrator_url("billing"),
        ..good.clone()
    })
    .await;
    assert!(text.contains("app role postgres is a superuser"), "{text}");
    assert!(text.contains("owns tables of schema billing"), "{text}");

    let other = test.config("identity");
    let text = problems(DatabaseConfig {
        app_url: other.app_url,
        ..good.clone()
    })
    .await;
    assert!(
        text.contains("can reach the schemas of others: identity"),
        "{text}"
    );
    assert!(text.contains("may not use schema billing"), "{text}");

    let text = problems(DatabaseConfig {
        app_url: good.worker_url.clone(),
        ..good.clone()
    })
    .await;
    assert!(text.contains("is a worker role"), "{text}");

    let text = problems(DatabaseConfig {
        app_url: "not a url with secret".to_owned(),
        worker_url: String::new(),
        ..good
    })
    .await;
    assert!(
        text.contains("app URL") && text.contains("worker URL") && !text.contains("secret"),
        "{text}"
    );
}

#[tokio::test]
async fn a_role_that_can_bypass_row_security_is_refused() {
    let test = TestDatabase::new().await;
    let good = test.config("billing");
    let app = test.role("billing", "app");
    let name = format!("bypass_{}", std::process::id());
    // also when it would have to `set role` first
    test.execute(&format!(
        "create role {name}_power nologin bypassrls;
         create role {name} login password 'p' in role {app}, {name}_power;"
    ))
    .await;
    let (_, rest) = good.app_url.split_once('@').unwrap();
    let text = problems(DatabaseConfig {
        app_url: format!("postgres://{name}:p@{rest}"),
        ..good.clone()
    })
    .await;
    test.execute(&format!("drop role {name}; drop role {name}_power"))
        .await;
    assert!(text.contains("can bypass row security"), "{text}");
}

#[tokio::test]
async fn a_missing_server_is_unavailable() {
    let test = TestDatabase::new().await;
    let url = "postgres://u:p@127.0.0.1:1/none".to_owned();
    let config = DatabaseConfig {
        app_url: url.clone(),
        worker_url: url,
        acquire_timeout: Duration::from_secs(1),
        ..test.config("billing")
    };
    let error = Database::connect(&config).await.unwrap_err();
    assert!(error.is_unavailable(), "{error:?}");
}
