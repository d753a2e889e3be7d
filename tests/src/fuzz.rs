//! Runs schemathesis (PyPI) against a platform and reads its report. Deliberately absent: a list of endpoints; the
//! OpenAPI document is the list.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};
use serde_json::Value;
use tokio::process::Command;

use crate::{Platform, Starting};

/// What a run found.
#[derive(Debug)]
pub struct Report {
    /// Requests made.
    pub requests: u64,
    /// Whether every check held for every request.
    pub passed: bool,
    /// What schemathesis printed.
    pub printed: String,
}

/// The repository.
pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// A program of the tests' Python environment, which is made on first use.
pub async fn python_program(name: &str) -> anyhow::Result<PathBuf> {
    let made = Command::new("bash")
        .arg("tests/python/venv.sh")
        .current_dir(repository())
        .output()
        .await?;
    ensure!(
        made.status.success(),
        "tests/python/venv.sh: {}",
        String::from_utf8_lossy(&made.stderr)
    );
    let interpreter = String::from_utf8_lossy(&made.stdout).trim().to_owned();
    Ok(PathBuf::from(interpreter).with_file_name(name))
}

/// Fuzzes every route of a new platform with up to `examples` generated requests each phase, from a seed that replays.
/// The phase that chains calls is left out: it would revoke the key it works with.
pub async fn schemathesis(name: &str, examples: u32, seed: u64) -> anyhow::Result<Report> {
    // A wrong credential is to be told so. As many a second as this makes would be told 429 instead.
    let patient = ("MAINSTAY_GATEWAY_RATE_AUTH_PER_SECOND", "1000000");
    let starting = Starting {
        env: vec![(patient.0.to_owned(), patient.1.to_owned())],
        ..Starting::default()
    };
    let platform = &Platform::start_with(name, starting).await?;
    let report = platform.data_dir().with_extension("fuzz.json");
    let url = format!("{}/openapi.json", platform.dev_text("/gateway_url")?);
    let output = Command::new(python_program("schemathesis").await?)
        .args([
            "run",
            &url,
            "--phases",
            "examples,coverage,fuzzing",
            "--workers",
            "2",
            "--continue-on-failure",
            // What a schema cannot say is refused all the same: a page token of another list, a permission that the
            // caller lacks, an etag of yesterday.
            "--exclude-checks",
            "positive_data_acceptance",
        ])
        .args([
            "--max-examples",
            &examples.to_string(),
            "--seed",
            &seed.to_string(),
        ])
        .args([
            "--suppress-health-check",
            "all",
            "--report",
            "json",
            "--report-json-path",
        ])
        .arg(&report)
        .args([
            "--header",
            &format!("Authorization:Bearer {}", fuzzing_key(platform).await?),
        ])
        // Its database of examples would make a run depend on the one before.
        .env(
            "HYPOTHESIS_STORAGE_DIRECTORY",
            platform.data_dir().with_extension("hypothesis"),
        )
        .current_dir(platform.data_dir())
        .output()
        .await?;
    let printed = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    let report =
        std::fs::read(&report).with_context(|| format!("no report; it printed:\n{printed}"))?;
    let report: Value = serde_json::from_slice(&report)?;
    let requests = report
        .pointer("/test_cases/generated")
        .and_then(Value::as_u64)
        .unwrap_or(0);
    let failures = report["failures"].as_array().map_or(usize::MAX, Vec::len);
    let passed =
        report["complete"] == true && failures == 0 && only_its_own_errors(&report, &printed);
    Ok(Report {
        requests,
        passed,
        printed,
    })
}

/// A key that may do everything but end keys. The generator reuses ids that it was shown: with the owner's own key it
/// finds that key in the list, revokes it, and spends the rest of the run being told 401.
async fn fuzzing_key(platform: &Platform) -> anyhow::Result<String> {
    let owner = platform.owner()?;
    let all = owner.get("/v1/permissions").await?.expect(200)?;
    let ends_keys = ["identity.api_keys.revoke", "identity.api_keys.create"];
    let permissions: Vec<&Value> = all["data"]
        .as_array()
        .context("permissions")?
        .iter()
        .map(|permission| &permission["name"])
        .filter(|name| !ends_keys.iter().any(|ending| *name == ending))
        .collect();
    let body = serde_json::json!({"name": "fuzzing", "permissions": permissions});
    let made = owner.post("/v1/api_keys", &body).await?.expect(201)?;
    crate::world::text(&made, "secret")
}

/// CPython 3.11 sometimes cannot parse the generator's own source ("AST constructor recursion depth mismatch"); the
/// route's remaining cases are then made in its other phases. Any other error counts.
fn only_its_own_errors(report: &Value, printed: &str) -> bool {
    let errors = report["errors"].as_array().map_or(0, Vec::len);
    let own = printed
        .matches("SystemError: AST constructor recursion depth mismatch")
        .count();
    errors <= own
}
