//! `mainstay demo` as a process of its own, beside a platform that is killed and started again while it plays.
//! Deliberately absent: the story. The command knows it, and judges it.

use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::Command;

use crate::Platform;

/// What one playing came to.
#[derive(Debug)]
pub struct Played {
    /// What each step proved, without what differs from one playing to the next.
    pub proved: Vec<String>,
    /// How often the platform was killed meanwhile.
    pub kills: u64,
    /// How long it took.
    pub took: Duration,
}

/// Plays the story once. After each step `kill` says whether the platform is killed, and how far into the next step.
///
/// # Errors
/// When the story does not hold, with what it said.
pub async fn play(
    platform: &mut Platform,
    mut kill: impl FnMut(usize) -> Option<Duration>,
) -> anyhow::Result<Played> {
    let began = Instant::now();
    let mut child = Command::new(crate::platform::binary()?)
        .args(["demo", "--data-dir"])
        .arg(platform.data_dir())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .context("mainstay demo")?;
    let stdout = child.stdout.take().context("its stdout")?;
    let mut lines = BufReader::new(stdout).lines();
    let (mut said, mut proved, mut kills) = (Vec::new(), Vec::new(), 0);
    while let Some(line) = lines.next_line().await? {
        if let Some(what) = line.trim_start().strip_prefix("proved: ") {
            proved.push(without_names(what));
            if let Some(after) = kill(proved.len()) {
                tokio::time::sleep(after).await;
                platform.kill().await?;
                kills += 1;
                platform.restart().await?;
            }
        }
        said.push(line);
    }
    let ended = child.wait_with_output().await?;
    ensure!(
        ended.status.success(),
        "after {kills} kills the story does not hold: {}\n{}",
        String::from_utf8_lossy(&ended.stderr).trim(),
        said.join("\n")
    );
    Ok(Played {
        proved,
        kills,
        took: began.elapsed(),
    })
}

/// Without the words that name a thing of this playing: those with a digit in them.
fn without_names(text: &str) -> String {
    let words = text.split(' ');
    let words = words.map(|word| match word.contains(|c: char| c.is_ascii_digit()) {
        true => "…",
        false => word,
    });
    words.collect::<Vec<_>>().join(" ")
}
