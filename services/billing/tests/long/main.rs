//! `cargo xtask stripe-events`: a hundred thousand events of Stripe's, thrice, shuffled, one in a hundred lost and
//! recovered; afterwards what stands here is what stands at Stripe. The report lands in `docs/reports`.
//! Deliberately absent: the checks themselves; the short tier in `tests/it/storm.rs` runs the same.

#[path = "../it/identity.rs"]
#[expect(dead_code, reason = "the short tests need more of it")]
mod identity;
#[path = "../it/integrations.rs"]
#[expect(dead_code, reason = "the short tests need more of it")]
mod integrations;
#[path = "../it/messaging.rs"]
#[expect(dead_code, reason = "the short tests need more of it")]
mod messaging;
#[path = "../it/stage.rs"]
#[expect(dead_code, reason = "the short tests need more of it")]
mod stage;
#[path = "../it/storm.rs"]
mod storm;

use std::fmt::Write as _;
use std::path::Path;

use storm::{Report, Size};

fn main() {
    let mut arguments = std::env::args().skip(1);
    let mut number = |otherwise: u64| match arguments.next() {
        Some(text) => text.parse().expect("a number"),
        None => otherwise,
    };
    let (events, clients, seed) = (number(100_000), number(2_000), number(20_261_121));
    let size = Size {
        clients: usize::try_from(clients).expect("few enough"),
        events,
        seed,
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("threads");
    let report = runtime.block_on(async {
        let stage = stage::Stage::start().await;
        storm::run(&stage, size).await
    });
    let text = written(size, &report);
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let path = root.join("docs/reports/stripe-events.md");
    std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
    std::fs::write(&path, &text).expect("a report");
    say(&text);
    assert!(report.differences.is_empty(), "here and there differ");
}

fn written(size: Size, report: &Report) -> String {
    let mut text = String::from("# Stripe's events, told badly\n\n");
    let rate = |count: usize, seconds: f64| count as f64 / seconds.max(0.001);
    let delivering = report.delivering.as_secs_f64();
    let mut line = |line: String| {
        let _ = writeln!(text, "{line}");
    };
    line(format!(
        "`cargo xtask stripe-events --events {} --clients {} --seed {}`: {}.\n",
        size.events,
        size.clients,
        size.seed,
        match report.differences.len() {
            0 => "what stands here is what stands at Stripe".to_owned(),
            many => format!("{many} DIFFERENCES"),
        }
    ));
    line("| | |\n|---|---|".to_owned());
    line(format!("| events at Stripe | {} |", report.events));
    line(format!(
        "| deliveries, each event thrice, shuffled | {} |",
        report.deliveries
    ));
    line(format!(
        "| handled in | {delivering:.0} s, {:.0} deliveries/s |",
        rate(report.deliveries, delivering)
    ));
    line(format!("| never delivered | {} |", report.lost));
    line(format!(
        "| recovered from the Events API | {} in {:.0} s |",
        report.recovered,
        report.walking.as_secs_f64()
    ));
    for (what, count) in &report.compared {
        line(format!("| compared: {what} | {count} |"));
    }
    for difference in report.differences.iter().take(50) {
        line(format!("\n- {difference}"));
    }
    text
}

#[expect(clippy::print_stdout, reason = "this is a command at a terminal")]
fn say(text: &str) {
    println!("{text}");
}
