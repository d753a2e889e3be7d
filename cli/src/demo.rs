//! `mainstay demo`: plays the whole story against a running instance, through its public REST API and the simulators' public side,
//! and says at each step what that proved. Each run makes its own people, client, plan and number, and ends them. An instance
//! that is killed and started again meanwhile is waited for.
//! Deliberately absent: any look into the database. What an outside client cannot see, the story does not claim.

mod leaving;
mod ledger;
mod money;
mod people;
mod story;
mod talk;

use clap::Args;
use serde::Serialize;

use crate::api::Api;
use crate::data_dir::DataDirArg;
use crate::output::{self, Format};

/// Plays the whole story against a running instance
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  mainstay demo
  mainstay demo --data-dir /tmp/other --json

It can be run again and again; every run makes its own people, client, plan and number, and ends them.")]
pub struct DemoArgs {
    #[command(flatten)]
    data_dir: DataDirArg,
    #[command(flatten)]
    format: Format,
}

/// A step that went well.
#[derive(Debug, Serialize)]
struct Step {
    did: String,
    proved: String,
}

/// The story so far.
#[derive(Debug, Serialize)]
pub struct Told {
    #[serde(skip)]
    silent: bool,
    steps: Vec<Step>,
    /// Of the subscription, from REST to Stripe and back.
    trace_id: Option<String>,
    /// From the lead's text to whoever took it.
    claim_trace_id: Option<String>,
}

impl Told {
    /// Tells a step that went well.
    fn step(&mut self, did: impl Into<String>, proved: impl Into<String>) {
        let step = Step {
            did: did.into(),
            proved: proved.into(),
        };
        if !self.silent {
            output::line(format!("{:2}. {}", self.steps.len() + 1, step.did));
            output::line(format!("    proved: {}", step.proved));
        }
        self.steps.push(step);
    }
}

/// Runs the command.
///
/// # Errors
/// At the first step that does not go as it must.
pub async fn run(args: &DemoArgs) -> anyhow::Result<()> {
    let api = Api::of(&args.data_dir)?;
    let mut told = Told {
        silent: args.format.json,
        steps: Vec::new(),
        trace_id: None,
        claim_trace_id: None,
    };
    story::play(api, &mut told).await?;
    if args.format.json {
        return output::json(&told);
    }
    output::line("");
    output::line("The whole story holds.");
    for (what, trace) in [
        ("The subscription as one tree: ", &told.trace_id),
        ("From Mike's text to the claim:", &told.claim_trace_id),
    ] {
        if let Some(trace) = trace {
            let command = args.data_dir.command(&format!("trace {trace}"));
            output::line(format!("{what}  {command}"));
        }
    }
    Ok(())
}
