//! The commands that take long and therefore are no tests: bench, fuzz, what is killed, and Stripe's events. Each builds what it drives, then runs it.

use std::{path::Path, process::Command};

use anyhow::{Context, Result, ensure};
use mainstay_db::local::{LocalOptions, LocalPostgres};

/// Timed lines, of the release build.
pub async fn bench() -> Result<()> {
    cargo(&["build", "--release", "--workspace", "--bins"])?;
    run("release", "mainstay-bench", &[])?;
    // Sagas on a server that keeps what it commits: the one that tests share does not.
    let folder = crate::database::root().join("target/bench-postgres");
    std::fs::create_dir_all(&folder)?;
    let server = LocalPostgres::start(&LocalOptions {
        exclusive: false,
        ..LocalOptions::new(&folder)
    })
    .await?;
    let ran = cargo_with(
        &["test", "--release", "-q", "--workspace", "--test", "bench"],
        &[("MAINSTAY_TEST_DATABASE_URL", server.admin_url("postgres"))],
    );
    server.stop().await?;
    ran?;
    restate()
}

/// Restate with the same steps, in the same run, where npm installs it.
fn restate() -> Result<()> {
    let root = crate::database::root();
    let folder = root.join("target/restate");
    std::fs::create_dir_all(&folder)?;
    for file in ["package.json", "bench.mjs"] {
        std::fs::copy(root.join("tests/restate").join(file), folder.join(file)).context(file)?;
    }
    let installed = Command::new("npm")
        .args([
            "install",
            "--silent",
            "--no-audit",
            "--no-fund",
            "--ignore-scripts",
        ])
        .current_dir(&folder)
        .status();
    if !installed.is_ok_and(|status| status.success()) {
        say("Restate is not measured beside it: npm does not install it here.");
        return Ok(());
    }
    let status = Command::new("node")
        .arg("bench.mjs")
        .current_dir(&folder)
        .status()
        .context("node")?;
    ensure!(status.success(), "Restate's bench ended with {status}");
    Ok(())
}

#[expect(clippy::print_stdout, reason = "these are commands at a terminal")]
fn say(text: &str) {
    println!("{text}");
}

/// Generated requests; the report lands in `docs/reports`.
pub fn fuzz(seed: u64, examples: u32) -> Result<()> {
    cargo(&["build", "--workspace", "--bins"])?;
    let (seed, examples) = (seed.to_string(), examples.to_string());
    run("debug", "mainstay-fuzz", &[&seed, &examples])
}

/// Killed coordinators; the report lands in `docs/reports`.
pub fn chaos(seed: u64, clients: u64, kills: u64) -> Result<()> {
    cargo(&["build", "--workspace", "--bins"])?;
    let (seed, clients, kills) = (seed.to_string(), clients.to_string(), kills.to_string());
    run("debug", "mainstay-chaos", &[&seed, &clients, &kills])
}

/// Killed dispatchers, of the release build; the report lands in `docs/reports`.
pub fn messages(seed: u64, messages: u64, kills: u64) -> Result<()> {
    cargo(&["build", "--release", "--workspace", "--bins"])?;
    let (seed, messages, kills) = (seed.to_string(), messages.to_string(), kills.to_string());
    run("release", "mainstay-messages", &[&seed, &messages, &kills])
}

/// The demo's story, killed in each step; the report lands in `docs/reports`.
pub fn story(seed: u64, runs: u64) -> Result<()> {
    cargo(&["build", "--workspace", "--bins"])?;
    let (seed, runs) = (seed.to_string(), runs.to_string());
    run("debug", "mainstay-story", &[&seed, &runs])
}

/// Stripe's events, told badly; the report lands in `docs/reports`.
pub fn stripe_events(events: u64, clients: u64, seed: u64) -> Result<()> {
    let [events, clients, seed] = [events, clients, seed].map(|number| number.to_string());
    cargo(&[
        "test",
        "-q",
        "--release",
        "--workspace",
        "--test",
        "long",
        "--",
        &events,
        &clients,
        &seed,
    ])
}

/// Runs what was built, where this program was built, too.
fn run(profile: &str, binary: &str, arguments: &[&str]) -> Result<()> {
    let own = std::env::current_exe().context("where this program stands")?;
    let target = own
        .parent()
        .and_then(Path::parent)
        .context("a target folder")?;
    let status = Command::new(target.join(profile).join(binary))
        .args(arguments)
        .status()
        .context(binary.to_owned())?;
    ensure!(status.success(), "{binary} ended with {status}");
    Ok(())
}

fn cargo(arguments: &[&str]) -> Result<()> {
    cargo_with(arguments, &[])
}

fn cargo_with(arguments: &[&str], environment: &[(&str, String)]) -> Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut command = Command::new("cargo");
    // What cargo told this program about itself is not handed on: build scripts watch it, and would run again.
    for (name, _) in std::env::vars_os() {
        let about_us = name.to_string_lossy();
        if about_us.starts_with("CARGO_PKG_") || about_us.starts_with("CARGO_MANIFEST_") {
            command.env_remove(&name);
        }
    }
    let status = command
        .args(arguments)
        .envs(environment.iter().map(|(name, value)| (name, value)))
        .current_dir(root)
        .status()
        .context("cargo")?;
    ensure!(
        status.success(),
        "cargo {} ended with {status}",
        arguments.join(" ")
    );
    Ok(())
}
