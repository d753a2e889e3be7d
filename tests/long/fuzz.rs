//! `cargo xtask fuzz`: at least 20,000 requests made from the OpenAPI document, seed printed, report written.

use std::fmt::Write as _;

use anyhow::{Context as _, ensure};
use mainstay_tests::fuzz;

/// Requests below which the run counts as too short.
const LEAST: u64 = 20_000;

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let seed: u64 = arguments
        .next()
        .unwrap_or_else(|| "20261121".into())
        .parse()
        .context("the seed is a number")?;
    let examples: u32 = arguments
        .next()
        .unwrap_or_else(|| "60".into())
        .parse()
        .context("examples is a number")?;
    let report = fuzz::schemathesis("fuzz-long", examples, seed).await?;
    let mut text = String::new();
    writeln!(text, "# Generated requests against the OpenAPI document\n")?;
    writeln!(
        text,
        "`cargo xtask fuzz --seed {seed} --examples {examples}`: {} requests, {}.\n",
        report.requests,
        if report.passed {
            "no finding"
        } else {
            "FINDINGS"
        }
    )?;
    let from = report
        .printed
        .rfind("= SUMMARY =")
        .map_or(0, |at| report.printed[..at].rfind('\n').unwrap_or(0));
    // Where it left its own files is of no use to anybody else.
    let printed: Vec<&str> = report.printed[from..]
        .trim()
        .lines()
        .filter(|line| !line.contains("JSON: ") && *line != "Reports:")
        .collect();
    writeln!(text, "```\n{}\n```", printed.join("\n"))?;
    let path = fuzz::repository().join("docs/reports/openapi-fuzz.md");
    std::fs::create_dir_all(path.parent().context("a folder")?)?;
    std::fs::write(&path, &text)?;
    say(&text);
    ensure!(report.passed, "{}", report.printed);
    ensure!(
        report.requests >= LEAST,
        "only {} requests: raise the examples",
        report.requests
    );
    Ok(())
}

#[expect(clippy::print_stdout, reason = "this is a command at a terminal")]
fn say(text: &str) {
    println!("{text}");
}
