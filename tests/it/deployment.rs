//! What is deployed: the manifests render, hold against the Kubernetes schemas and our own rules, and give each role the
//! settings it asks for.

use anyhow::ensure;
use mainstay_tests::{fuzz, platform};
use tokio::process::Command;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_manifests_hold() -> anyhow::Result<()> {
    let mut renders = false;
    for program in ["kubectl", "kustomize"] {
        renders |= Command::new(program).arg("version").output().await.is_ok();
    }
    if !renders {
        eprintln!("neither kubectl nor kustomize is installed: the manifests were not rendered");
        return Ok(());
    }
    let output = Command::new("sh")
        .arg("tests/python/k8s_validate.sh")
        .arg(platform::binary()?)
        .current_dir(fuzz::repository())
        .output()
        .await?;
    ensure!(
        output.status.success(),
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}
