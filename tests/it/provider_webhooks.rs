//! Webhooks of those who carry messages, against the whole: signed by the providers' own libraries they are stored once, forged
//! they leave nothing; and nothing that was given for an account is anywhere in clear.

use std::path::Path;

use anyhow::{Context as _, ensure};
use mainstay_tests::{Platform, world};
use serde_json::json;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection, Row as _};
use tokio::process::Command;

const OLD: &str = "b3a1f0c2d4e5968778695a4b3c2d1e0f";
const NEW: &str = "0f1e2d3c4b5a69788796e5d4c2f0a1b3";
const SID: &str = "AC5ef8732a3c49700934481addd5ce1659";
const API_KEY: &str = "re_kT8vQ2mZ1aB9xWq7";
const SVIX: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// The interpreter of the Python tests' environment.
async fn python() -> anyhow::Result<String> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("python/venv.sh");
    let made = Command::new("sh").arg(script).output().await?;
    let said = String::from_utf8_lossy(&made.stderr);
    ensure!(made.status.success(), "tests/python/venv.sh: {said}");
    Ok(String::from_utf8(made.stdout)?.trim().to_owned())
}

/// Every row of every schema of ours, as text.
async fn dump(platform: &Platform) -> anyhow::Result<String> {
    let mut connection = PgConnection::connect(platform.dev_text("/database_url")?).await?;
    let tables = sqlx::query(
        "select n.nspname::text as schema, c.relname::text as name from pg_class c join pg_namespace n on n.oid = c.relnamespace
         where c.relkind = 'r' and n.nspname not like 'pg\\_%' and n.nspname <> 'information_schema'",
    )
    .fetch_all(&mut connection)
    .await?;
    let mut text = String::new();
    for table in tables {
        let (schema, name): (String, String) = (table.try_get("schema")?, table.try_get("name")?);
        let rows = format!("select t::text as row from \"{schema}\".\"{name}\" t");
        for row in sqlx::query(AssertSqlSafe(rows))
            .fetch_all(&mut connection)
            .await?
        {
            text.push_str(&row.try_get::<String, _>("row")?);
            text.push('\n');
        }
    }
    Ok(text)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_providers_own_libraries_sign_is_stored_once_and_a_forgery_leaves_nothing()
-> anyhow::Result<()> {
    let platform = Platform::start("provider-webhooks").await?;
    let owner = platform.owner()?;
    let account = async |provider: &str, credentials: serde_json::Value| {
        let body = json!({"provider": provider, "name": provider, "credentials": credentials});
        owner
            .post("/v1/provider_accounts", &body)
            .await?
            .expect(201)
    };
    let twilio = account("twilio", json!({"account_sid": SID, "auth_token": OLD})).await?;
    let resend = account(
        "resend",
        json!({"api_key": API_KEY, "webhook_secret": SVIX}),
    )
    .await?;
    let rotate = format!(
        "/v1/provider_accounts/{}/rotate",
        world::text(&twilio, "id")?
    );
    let credentials = json!({"credentials": {"account_sid": SID, "auth_token": NEW}});
    owner.post(&rotate, &credentials).await?.expect(200)?;

    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("python/webhook_signatures_test.py");
    let sent = Command::new(python().await?)
        .arg(script)
        .arg(owner.base())
        .args([&world::text(&twilio, "endpoint_token")?, NEW, OLD])
        .args([&world::text(&resend, "endpoint_token")?, SVIX])
        .output()
        .await?;
    let said = String::from_utf8_lossy(&sent.stderr);
    ensure!(sent.status.success(), "{said}");

    // Each came twice, signed by the one secret and by the other. What the alert about those that nobody takes brings is not theirs.
    let rows = platform
        .pairs(
            "select event_key, provider || ' ' || account || ' ' || type from integrations.webhook_event
             where event_key like '%python%' order by event_key",
        )
        .await?;
    let (twilio_id, resend_id) = (world::text(&twilio, "id")?, world::text(&resend, "id")?);
    let of_twilio = |key: &str, kind: &str| (key.to_owned(), format!("twilio {twilio_id} {kind}"));
    let mut wanted = vec![
        of_twilio("SMpython1", "message.received"),
        of_twilio("SMpython2/delivered", "message.status"),
        of_twilio("SMpython3/read", "message.status"),
        of_twilio("CApython1", "call.received"),
        of_twilio("CApython1/completed", "call.status"),
        (
            "msg_python1".to_owned(),
            format!("resend {resend_id} email.delivered"),
        ),
    ];
    let mut rows = rows;
    rows.sort();
    wanted.sort();
    ensure!(rows == wanted, "{rows:#?} instead of {wanted:#?}");
    for table in ["webhook_event", "webhook_dedup"] {
        let forged =
            format!("select count(*) from integrations.{table} where event_key like '%forged%'");
        ensure!(
            platform.count(&forged).await? == 0,
            "a forgery is in {table}"
        );
    }
    let attempt =
        "select count(*) from integrations.webhook_event where event_key = 'SMpython2/delivered'
         and convert_from(body, 'UTF8') like '%&MainstayAttempt=att_01h455vb4pex5vsknk084sn02q'";
    ensure!(
        platform.count(attempt).await? == 1,
        "the attempt is not kept"
    );

    let mut seen = dump(&platform).await?;
    for file in ["mainstay.log", "traces.jsonl"] {
        let path = platform.data_dir().join(file);
        let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        ensure!(!text.is_empty(), "{file} is empty");
        seen.push_str(&text);
    }
    for secret in [OLD, NEW, SID, API_KEY, SVIX] {
        let as_bytes = hex::encode(secret);
        ensure!(
            !seen.contains(secret) && !seen.contains(&as_bytes),
            "{secret} is in the database, the log or the traces"
        );
    }
    Ok(())
}
