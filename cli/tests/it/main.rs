//! The binary as a person at a terminal meets it. Journeys through a running instance are in the workspace's `tests`.
//! Deliberately absent: a database. What needs one is tried on the whole platform.

mod errors;
mod help;
mod settings;

use std::process::{Command, Output};

/// Runs the binary with a clean environment, in an empty folder of its own.
fn mainstay(arguments: &[&str], environment: &[(&str, &str)]) -> Output {
    let folder = std::path::Path::new(env!("CARGO_TARGET_TMPDIR"))
        .join(format!("cli-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a scratch folder");
    Command::new(env!("CARGO_BIN_EXE_mainstay"))
        .args(arguments)
        .env_clear()
        .envs(environment.iter().copied())
        .current_dir(folder)
        .output()
        .expect("the binary runs")
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}
