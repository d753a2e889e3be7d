//! Who had the processors while something was timed: the process, its PostgreSQL, nobody, and whoever else the host runs.
//! Deliberately absent: counters of the processor itself, which virtual machines do not show.

use std::{collections::HashMap, fs};

use anyhow::Context as _;
use mainstay_tests::Platform;

/// What was spent until now, in the kernel's ticks.
#[derive(Clone, Copy, Default)]
pub struct Spent {
    process: u64,
    postgres: u64,
    idle: u64,
    stolen: u64,
    all: u64,
}

impl Spent {
    /// Until now.
    pub fn by(platform: &Platform) -> anyhow::Result<Self> {
        let process = platform.pid().context("it runs")?;
        let postmaster = platform.postmaster().context("its PostgreSQL runs")?;
        let mut spent = Self::of_machine()?;
        for (pid, stat) in processes()? {
            if pid == process {
                spent.process = stat.ticks;
            } else if pid == postmaster || stat.parent == postmaster {
                spent.postgres += stat.ticks;
            }
        }
        Ok(spent)
    }

    fn of_machine() -> anyhow::Result<Self> {
        let text = fs::read_to_string("/proc/stat")?;
        let ticks = text.lines().next().unwrap_or_default();
        let ticks: Vec<u64> = ticks
            .split_whitespace()
            .skip(1)
            .filter_map(|ticks| ticks.parse().ok())
            .collect();
        // user nice system idle iowait irq softirq steal; guests' are in the first two.
        let [_, _, _, idle, waiting, _, _, stolen, ..] = ticks[..] else {
            anyhow::bail!("/proc/stat: {text}");
        };
        Ok(Self {
            idle: idle + waiting,
            stolen,
            all: ticks.iter().take(8).sum(),
            ..Self::default()
        })
    }

    /// What was spent since `before`, added to `sum`.
    pub fn since(self, before: Self, sum: Self) -> Self {
        Self {
            process: sum.process + self.process - before.process,
            // A backend that has ended is no longer counted.
            postgres: sum.postgres + self.postgres.saturating_sub(before.postgres),
            idle: sum.idle + self.idle - before.idle,
            stolen: sum.stolen + self.stolen - before.stolen,
            all: sum.all + self.all - before.all,
        }
    }

    /// For each of so many.
    pub fn each(self, count: f64) -> String {
        // Linux counts a hundred a second, whatever its clock does.
        let micros = |ticks: u64| ticks as f64 * 10_000.0 / count;
        let share = |ticks: u64| 100.0 * ticks as f64 / self.all as f64;
        format!(
            "process {:.0} µs, PostgreSQL {:.0} µs; {:.0} % idle, {:.0} % stolen",
            micros(self.process),
            micros(self.postgres),
            share(self.idle),
            share(self.stolen),
        )
    }
}

struct Stat {
    parent: u32,
    ticks: u64,
}

fn processes() -> anyhow::Result<HashMap<u32, Stat>> {
    let mut found = HashMap::new();
    for entry in fs::read_dir("/proc")? {
        let name = entry?.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        // It may have ended meanwhile.
        let Ok(text) = fs::read_to_string(format!("/proc/{pid}/stat")) else {
            continue;
        };
        // A name may hold anything, a bracket too: what counts comes after the last.
        let Some((_, rest)) = text.rsplit_once(") ") else {
            continue;
        };
        let rest: Vec<&str> = rest.split(' ').collect();
        let at = |place: usize| rest.get(place).and_then(|text| text.parse::<u64>().ok());
        if let (Some(parent), Some(user), Some(system)) = (at(1), at(11), at(12)) {
            let (parent, ticks) = (u32::try_from(parent)?, user + system);
            found.insert(pid, Stat { parent, ticks });
        }
    }
    Ok(found)
}
