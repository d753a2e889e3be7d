//! The providers' official libraries drive the simulators: what they accept, our own clients will.
//!
//! Deliberately absent: the checks themselves, which are Python, in `tests/python/*_sim_test.py`.

use std::path::PathBuf;

use crate::client::Simulator;

async fn is_content(script: &str) {
    let scripts = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/python");
    let made = tokio::process::Command::new("sh")
        .arg(scripts.join("venv.sh"))
        .output()
        .await
        .expect("sh runs");
    let complaint = String::from_utf8_lossy(&made.stderr).into_owned();
    assert!(made.status.success(), "no Python environment: {complaint}");
    let python = String::from_utf8(made.stdout).expect("a path");

    let simulator = Simulator::start().await;
    let output = tokio::process::Command::new(python.trim())
        .arg(scripts.join(script))
        .args(["--base-url", &simulator.base])
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

#[tokio::test]
async fn stripes_library_is_content() {
    is_content("stripe_sim_test.py").await;
}

#[tokio::test]
async fn twilios_library_is_content() {
    is_content("twilio_sim_test.py").await;
}

#[tokio::test]
async fn resends_and_svixs_and_sendgrids_libraries_are_content() {
    is_content("mail_sim_test.py").await;
}

#[tokio::test]
async fn openais_library_is_content() {
    is_content("openai_sim_test.py").await;
}
