//! Requests that nobody thought of: schemathesis makes them from the OpenAPI document the gateway serves. No 5xx, no
//! answer outside the schema, no invalid request accepted, no valid one refused as malformed. The short tier runs
//! here; `cargo xtask fuzz` runs 20,000 and more.

use anyhow::{Context as _, ensure};
use mainstay_tests::fuzz;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn generated_requests_find_no_hole() -> anyhow::Result<()> {
    let report = fuzz::schemathesis("fuzz", 12, 20_261_121)
        .await
        .context("schemathesis")?;
    ensure!(
        report.requests >= 500,
        "only {} requests were made",
        report.requests
    );
    ensure!(report.passed, "{}", report.printed);
    println!("{} generated requests", report.requests);
    Ok(())
}
