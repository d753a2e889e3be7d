//! A coupon that many want at once (BIL-03, BIL-04), through the whole platform. `cargo xtask chaos` ends with a larger one.

use anyhow::ensure;
use mainstay_tests::rush::{self, Rush};
use mainstay_tests::{Platform, Starting};
use serde_json::json;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_coupon_is_redeemed_as_often_as_it_has_places_and_every_invoice_shows_it()
-> anyhow::Result<()> {
    let starting = Starting {
        no_demo: true,
        env: vec![("MAINSTAY_TRACE_SAMPLE_RATIO".to_owned(), "0".to_owned())],
        ..Starting::default()
    };
    let mut platform = Platform::start_with("rush", starting).await?;
    let late = json!({"provider": "stripe", "operation": "*", "kind": "latency", "value": 40, "rate": 1.0});
    platform.sandbox_post("/_/faults", &late).await?;
    let rush = Rush {
        clients: 100,
        places: 20,
    };
    let outcome = rush::run(&platform, rush).await?;
    ensure!(
        outcome.exhausted > 0 && outcome.declined > 0 && outcome.looks > 0,
        "nobody was refused: {outcome:?}"
    );
    platform.stop().await?;
    Ok(())
}
