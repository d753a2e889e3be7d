//! `cargo xtask story`: the demo's whole story many times on one data directory, once with a kill -9 in each step; report written.
//! Deliberately absent: the story. `mainstay demo` plays and judges it.

use std::fmt::Write as _;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use mainstay_tests::chaos::Chance;
use mainstay_tests::story::{self, Played};
use mainstay_tests::{Platform, fuzz, world};

/// How far into a step the kill falls, at most.
const DEEPEST_MS: u64 = 2_000;

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> anyhow::Result<()> {
    let mut given = std::env::args().skip(1).map(|argument| {
        let number: anyhow::Result<u64> = argument.parse().context("seed and runs are numbers");
        number
    });
    let seed = given.next().transpose()?.unwrap_or(20_261_122);
    let runs = given.next().transpose()?.unwrap_or(20);
    say(&format!("seed {seed}"));
    let mut chance = Chance::new(seed);
    let killed = chance.below(runs) + 1;
    let mut platform = Platform::start("story").await?;
    let mut played = Vec::new();
    for run in 1..=runs {
        let one = story::play(&mut platform, |_| {
            (run == killed).then(|| Duration::from_millis(chance.below(DEEPEST_MS)))
        })
        .await
        .with_context(|| format!("run {run}"))?;
        say(&format!(
            "run {run}: {} steps, {} kills, {:.1?}",
            one.proved.len(),
            one.kills,
            one.took
        ));
        played.push(one);
    }
    // Nothing is left to do, and nothing was given up; a saga may wait for the end of a grace.
    for (what, sql) in [
        (
            "sagas ended",
            "select count(*) from billing.saga where state not in ('completed', 'compensated', 'waiting')",
        ),
        (
            "webhooks processed",
            "select count(*) from integrations.webhook_event where state <> 'processed'",
        ),
    ] {
        world::until(what, async || {
            Ok((platform.count(sql).await? == 0).then_some(()))
        })
        .await?;
    }
    for service in [
        "identity",
        "billing",
        "messaging",
        "escalation",
        "integrations",
    ] {
        let dead = format!("select count(*) from {service}.job_dead_letter");
        ensure!(platform.count(&dead).await? == 0, "{service} gave up a job");
    }
    for one in &played {
        ensure!(
            one.proved == played[0].proved,
            "a run ended otherwise: {:#?}",
            one.proved
        );
    }
    let text = told(seed, killed, &played)?;
    std::fs::write(fuzz::repository().join("docs/reports/story.md"), &text)?;
    say(&text);
    Ok(())
}

fn told(seed: u64, killed: u64, played: &[Played]) -> anyhow::Result<String> {
    let mut text = String::new();
    let kills: u64 = played.iter().map(|one| one.kills).sum();
    let steps = played.first().map_or(0, |one| one.proved.len());
    let mut undisturbed: Vec<Duration> = played
        .iter()
        .filter(|one| one.kills == 0)
        .map(|one| one.took)
        .collect();
    undisturbed.sort_unstable();
    let middle = undisturbed
        .get(undisturbed.len() / 2)
        .copied()
        .unwrap_or_default();
    writeln!(text, "# The whole story, again and again\n")?;
    writeln!(
        text,
        "`cargo xtask story --seed {seed} --runs {}`: `mainstay demo` played {} times in a row on one data directory. In run {killed} \
         everything was killed with -9 in each of its {steps} steps, {kills} times, at a moment within {DEEPEST_MS} ms of the step before, \
         and started again. Every run proved the same; afterwards no saga ran, no webhook waited and no job had been given up.\n",
        played.len(),
        played.len()
    )?;
    writeln!(text, "| | |\n|---|---|")?;
    writeln!(
        text,
        "| an undisturbed run, the middle one | {middle:.1?} |"
    )?;
    for one in played.iter().filter(|one| one.kills > 0) {
        writeln!(
            text,
            "| the run with {} kills | {:.1?} |",
            one.kills, one.took
        )?;
    }
    writeln!(text, "\nWhat each run proved:\n")?;
    for what in played.first().map(|one| &one.proved).into_iter().flatten() {
        writeln!(text, "1. {what}")?;
    }
    Ok(text)
}

#[expect(clippy::print_stdout, reason = "this is a command at a terminal")]
fn say(text: &str) {
    println!("{text}");
}
