//! `cargo xtask chaos`: 500 clients, at least 100 kills, seed printed, report written.

use std::fmt::Write as _;

use anyhow::{Context as _, ensure};
use mainstay_tests::{chaos, fuzz};

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> anyhow::Result<()> {
    let arguments: Vec<u64> = std::env::args()
        .skip(1)
        .map(|argument| {
            argument
                .parse()
                .context("seed, clients and kills are numbers")
        })
        .collect::<anyhow::Result<_>>()?;
    let given = |place: usize, otherwise: u64| arguments.get(place).copied().unwrap_or(otherwise);
    let clients = given(1, 500);
    let plan = chaos::Plan {
        seed: given(0, 20_261_121),
        clients,
        kills: given(2, 100),
        at_once: 24,
        coupons: clients / 5,
    };
    say(&format!("seed {}", plan.seed));
    let report = chaos::run(plan).await?;
    let mut text = String::new();
    let (seed, clients, kills) = (plan.seed, plan.clients, plan.kills);
    writeln!(
        text,
        "# Coordinators killed while clients subscribe, change their mind and cancel\n"
    )?;
    writeln!(
        text,
        "`cargo xtask chaos --seed {seed} --clients {clients} --kills {kills}`: {} processes killed with -9 in {:.0?}, {}.\n",
        report.kills,
        report.took,
        if report.wrong.is_empty() {
            "nothing wrong"
        } else {
            "WRONG"
        }
    )?;
    writeln!(
        text,
        "Stripe (simulated) answers after 150 ms, 10 % of its answers never come although it acted, 10 % are 429, half of its webhooks come reversed.\n"
    )?;
    writeln!(text, "| | |\n|---|---|")?;
    writeln!(
        text,
        "| requests | {} |\n| of them repeats under the same key | {} |",
        report.requests, report.repeats
    )?;
    writeln!(text, "| looks at the coupon's counter | {} |", report.looks)?;
    writeln!(
        text,
        "| charged, minor units | {} |\n| given back | {} |",
        report.charged, report.refunded
    )?;
    for (what, count) in &report.sagas {
        writeln!(text, "| sagas: {what} | {count} |")?;
    }
    writeln!(
        text,
        "\nThen {clients} clients wanted a coupon with {} places at once, every fourth with a card that is declined after it took \
         one; whoever was refused tried again while there were places.\n\n| | |\n|---|---|\n\
         | redeemed, each with the discount on its paid invoice | {} |\n\
         | orders refused because all places were taken | {} |\n| orders declined, their place given back | {} |\n\
         | looks at the counter | {} |",
        plan.coupons, plan.coupons, report.rush.exhausted, report.rush.declined, report.rush.looks
    )?;
    for wrong in &report.wrong {
        writeln!(text, "\n- {wrong}")?;
    }
    let path = fuzz::repository().join("docs/reports/chaos.md");
    std::fs::write(&path, &text)?;
    say(&text);
    ensure!(
        report.wrong.is_empty(),
        "{} things are wrong",
        report.wrong.len()
    );
    Ok(())
}

#[expect(clippy::print_stdout, reason = "this is a command at a terminal")]
fn say(text: &str) {
    println!("{text}");
}
