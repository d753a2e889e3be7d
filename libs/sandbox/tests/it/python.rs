//! The official `stripe` library drives the simulator: what it accepts, our own client will.
//!
//! Deliberately absent: the checks themselves, which are Python, in `tests/python/stripe_sim_test.py`.

use std::path::PathBuf;

use crate::client::Simulator;

#[tokio::test]
async fn the_official_library_is_content() {
    let scripts = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/python");
    let made = tokio::process::Command::new("sh")
        .arg(scripts.join("venv.sh"))
        .output()
        .await
        .expect("sh runs");
    let complaint = String::from_utf8_lossy(&made.stderr).into_owned();
    assert!(made.status.success(), "no Python environment: {complaint}");
    let python = String::from_utf8(made.stdout).expect("a path");

    let stripe = Simulator::start().await;
    let output = tokio::process::Command::new(python.trim())
        .arg(scripts.join("stripe_sim_test.py"))
        .args(["--base-url", &stripe.base])
        .kill_on_drop(true)
        .output()
        .await
        .expect("python runs");
    let (out, err) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    assert!(output.status.success(), "{out}\n{err}");
}
