//! `<crate>/.sqlx`: what the compiler needs to know of each checked query without a database.
//! Deliberately absent: sqlx-cli; the macros write the files themselves when told where.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail, ensure};

use crate::database::{CheckedCrate, Dev, checked_crates, migrations, root};

/// Writes the metadata, or with `check` compares what would be written.
pub(crate) async fn write(data_dir: &Path, packages: &[String], check: bool) -> Result<()> {
    let migrations = migrations()?;
    let dev = Dev::open(data_dir, &migrations).await?;
    dev.migrate_all(&migrations).await?;
    let all = checked_crates(&migrations)?;
    for package in packages {
        ensure!(
            all.iter().any(|c| c.package == *package),
            "{package} has no sqlx.toml"
        );
    }
    let urls: Vec<(String, String)> = all
        .iter()
        .map(|c| (c.variable.clone(), dev.schema_url(&c.schema)))
        .collect();
    let mut stale = Vec::new();
    for checked in &all {
        if !packages.is_empty() && !packages.contains(&checked.package) {
            continue;
        }
        let fresh = root().join("target/sqlx").join(&checked.package);
        let _ = fs::remove_dir_all(&fresh);
        fs::create_dir_all(&fresh)?;
        // First its dependencies, which may have queries of their own and would write theirs here.
        compile(checked, &urls, None)?;
        compile(checked, &urls, Some(&fresh))?;
        let kept = checked.dir.join(".sqlx");
        let (new, old) = (queries(&fresh)?, queries(&kept)?);
        if new == old {
            println!("{}: {} queries, unchanged", checked.package, new.len());
        } else if check {
            stale.push(checked.package.clone());
        } else {
            let _ = fs::remove_dir_all(&kept);
            fs::create_dir_all(&kept)?;
            for (name, text) in &new {
                fs::write(kept.join(name), text)?;
            }
            println!("{}: {} queries written", checked.package, new.len());
        }
    }
    if !stale.is_empty() {
        bail!(
            "query metadata is out of date: run `cargo xtask sqlx` for {}",
            stale.join(", ")
        );
    }
    Ok(())
}

fn compile(
    checked: &CheckedCrate,
    urls: &[(String, String)],
    into: Option<&PathBuf>,
) -> Result<()> {
    // The macros run only where the crate is compiled anew.
    let entry = checked.dir.join("src/lib.rs");
    let file = fs::File::open(&entry).with_context(|| entry.display().to_string())?;
    if into.is_some() {
        file.set_modified(std::time::SystemTime::now())?;
    }
    let mut command = Command::new(env!("CARGO"));
    command
        .args(["check", "-q", "-p", &checked.package, "--all-targets"])
        .current_dir(root())
        .env("SQLX_OFFLINE", "false")
        .envs(urls.iter().cloned());
    // What cargo told this program about itself. Build scripts watch some of it (ring's does): handed on, it would rebuild
    // half of the dependencies here, and again in whatever build comes next.
    for (name, _) in std::env::vars_os() {
        let about_us = name.to_string_lossy();
        if about_us.starts_with("CARGO_PKG_") || about_us.starts_with("CARGO_MANIFEST_") {
            command.env_remove(&name);
        }
    }
    if let Some(into) = into {
        command.env("SQLX_OFFLINE_DIR", into);
    }
    ensure!(
        command.status()?.success(),
        "{} does not compile",
        checked.package
    );
    Ok(())
}

fn queries(dir: &Path) -> Result<BTreeMap<String, String>> {
    let mut found = BTreeMap::new();
    let Ok(entries) = fs::read_dir(dir) else {
        return Ok(found);
    };
    for entry in entries {
        let path = entry?.path();
        let name = path
            .file_name()
            .map(|n| n.to_string_lossy().into_owned())
            .unwrap_or_default();
        if name.starts_with("query-") {
            found.insert(name, fs::read_to_string(&path)?);
        }
    }
    Ok(found)
}
