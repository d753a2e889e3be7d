//! `cargo xtask messages`: 10,000 scheduled messages, four dispatchers, at least 30 kills, seed printed, report written.
//! Deliberately absent: the run itself; the small one among the tests is the same.

use std::fmt::Write as _;

use anyhow::{Context as _, ensure};
use mainstay_tests::carried::{self, percent};
use mainstay_tests::fuzz;

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> anyhow::Result<()> {
    let arguments: Vec<u64> = std::env::args()
        .skip(1)
        .map(|argument| {
            argument
                .parse()
                .context("seed, messages and kills are numbers")
        })
        .collect::<anyhow::Result<_>>()?;
    let given = |place: usize, otherwise: u64| arguments.get(place).copied().unwrap_or(otherwise);
    let plan = carried::Plan {
        seed: given(0, 20_261_121),
        messages: given(1, 10_000),
        kills: given(2, 30),
        workers: 4,
        rate: 100,
        spread_seconds: 60,
        pause_ms: 4000,
    };
    say(&format!("seed {}", plan.seed));
    let report = carried::run("carried", plan).await?;
    let text = told(&plan, &report)?;
    let path = fuzz::repository().join("docs/reports/messages.md");
    std::fs::write(&path, &text)?;
    say(&text);
    ensure!(
        report.wrong.is_empty(),
        "{} things are wrong",
        report.wrong.len()
    );
    Ok(())
}

fn told(plan: &carried::Plan, report: &carried::Report) -> anyhow::Result<String> {
    let mut text = String::new();
    let (seed, messages, kills) = (plan.seed, plan.messages, plan.kills);
    let ambiguous = u64::try_from(report.ambiguous)?;
    writeln!(text, "# Dispatchers killed while messages leave\n")?;
    writeln!(
        text,
        "`cargo xtask messages --seed {seed} --messages {messages} --kills {kills}`: {} processes killed with -9 while messages \
         left, in {:.0?}, {}.\n",
        report.kills.0,
        report.took,
        if report.wrong.is_empty() {
            "nothing wrong"
        } else {
            "WRONG"
        }
    )?;
    writeln!(
        text,
        "{} dispatchers; {} of the kills struck the process that gateway, integrations and one of them run in. Twilio (simulated) takes \
         5 % of the messages and does not say so in time. What left is counted there, by its text.\n",
        plan.workers, report.kills.1
    )?;
    writeln!(text, "| | of {messages} | |\n|---|---|---|")?;
    for (what, count) in [
        ("lost", report.lost),
        ("left twice", report.twice),
        ("at some time ambiguous", ambiguous),
    ] {
        writeln!(
            text,
            "| {what} | {count} | {} |",
            percent(count, report.messages)
        )?;
    }
    writeln!(text, "\n| | |\n|---|---|")?;
    writeln!(
        text,
        "| people written to | {} |\n| requests | {} |\n| of them repeats under the same key | {} |\n| tries, each with its permit | {} |\n\
         | messages of which asking told before a webhook did | {} |",
        report.people, report.requests.0, report.requests.1, report.tries, report.asked
    )?;
    for (name, counts) in [
        ("doubts", &report.causes),
        ("tries that were in doubt or refused, now", &report.ends),
        ("messages", &report.statuses),
    ] {
        for (what, count) in counts {
            writeln!(text, "| {name}: {what} | {count} |")?;
        }
    }
    for wrong in &report.wrong {
        writeln!(text, "\n- {wrong}")?;
    }
    Ok(text)
}

#[expect(clippy::print_stdout, reason = "this is a command at a terminal")]
fn say(text: &str) {
    println!("{text}");
}
