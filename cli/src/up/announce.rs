//! What `up` prints once everything answers: where it is, how to sign in, what to do next.
//! Deliberately absent: anything a script would parse. Scripts read `dev.json`.

use std::time::Duration;

use crate::data_dir::{DataDir, DataDirArg};
use crate::dev_file::DevFile;
use crate::output::line;

/// Prints it.
pub fn print(dev: &DevFile, data_dir: &DataDir, given: &DataDirArg, took: Duration) {
    let took = took.as_secs_f64();
    line(format!("Mainstay is up ({took:.1} s). Ctrl-C stops it."));
    line("");
    line(format!("  REST API       {}/v1", dev.gateway_url));
    line(format!("  documentation  {}", dev.docs_url));
    line(format!("  simulators     {}", dev.sandbox_url));
    line(format!("  data           {}", data_dir.root().display()));
    line("                 (log: mainstay.log; addresses and keys: dev.json)");
    line("");
    line(format!(
        "Sign in as {}, owner of the demo agency {}:",
        dev.owner.email, dev.agency_id
    ));
    line("");
    line(format!(
        "  curl -H 'Authorization: Bearer {}' {}/v1/me",
        dev.owner.api_key, dev.gateway_url
    ));
    for client in &dev.clients {
        line("");
        line(format!(
            "Its demo client is {} ({}).",
            client.name, client.id
        ));
    }
    line("");
    line("Next, in another terminal:");
    line("");
    let commands = [
        (
            "demo",
            "plays the whole story, says at each step what it proved",
        ),
        ("trace TRACE_ID", "shows one story as a tree"),
        ("doctor", "says what is wrong, and how to mend it"),
    ];
    let commands = commands.map(|(command, about)| (given.command(command), about));
    let width = commands.iter().map(|(command, _)| command.len()).max();
    let width = width.unwrap_or(0);
    for (command, about) in commands {
        line(format!("  {command:width$}  {about}"));
    }
}
