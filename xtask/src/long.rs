//! The commands that take long and therefore are no tests: bench and fuzz. Each builds what it drives, then runs it.

use std::{path::Path, process::Command};

use anyhow::{Context, Result, ensure};

/// Timed lines, of the release build.
pub fn bench() -> Result<()> {
    cargo(&[
        "build",
        "--release",
        "-p",
        "mainstay-cli",
        "-p",
        "mainstay-tests",
        "--bins",
    ])?;
    cargo(&[
        "run",
        "--release",
        "-q",
        "-p",
        "mainstay-tests",
        "--bin",
        "mainstay-bench",
    ])
}

/// Generated requests; the report lands in `docs/reports`.
pub fn fuzz(seed: u64, examples: u32) -> Result<()> {
    cargo(&[
        "build",
        "-p",
        "mainstay-cli",
        "-p",
        "mainstay-tests",
        "--bins",
    ])?;
    let (seed, examples) = (seed.to_string(), examples.to_string());
    cargo(&[
        "run",
        "-q",
        "-p",
        "mainstay-tests",
        "--bin",
        "mainstay-fuzz",
        "--",
        &seed,
        &examples,
    ])
}

fn cargo(arguments: &[&str]) -> Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let status = Command::new("cargo")
        .args(arguments)
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
