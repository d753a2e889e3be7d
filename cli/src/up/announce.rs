//! What `up` prints once everything answers: where it is, how to sign in, what to do next.
//! Deliberately absent: anything a script would parse. Scripts read `dev.json`.

use std::time::Duration;

use crate::data_dir::{DataDir, DataDirArg};
use crate::dev_file::DevFile;
use crate::output::line;

/// Prints it.
pub fn print(dev: &DevFile, data_dir: &DataDir, given: &DataDirArg, took: Duration) {
    let command = this_command();
    let option = match given.data_dir.to_str() {
        Some(".mainstay") => String::new(),
        _ => format!(" --data-dir {}", given.data_dir.display()),
    };
    line(format!(
        "Mainstay is up ({:.1} s). Ctrl-C stops it.",
        took.as_secs_f64()
    ));
    line("");
    line(format!("  REST API       {}/v1", dev.gateway_url));
    line(format!("  documentation  {}", dev.docs_url));
    line(format!("  simulators     {}", dev.sandbox_url));
    line(format!(
        "  data           {} (log: mainstay.log, addresses and keys: dev.json)",
        data_dir.root().display()
    ));
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
    line(format!(
        "  {command} demo{option}           plays the main story, says at each step what it proved"
    ));
    line(format!(
        "  {command} trace{option} TRACE_ID shows one story as a tree"
    ));
    line(format!(
        "  {command} doctor{option}         says what is wrong, and how to mend it"
    ));
}

/// How this program is called from here.
fn this_command() -> String {
    let here = std::env::current_dir().unwrap_or_default();
    match std::env::current_exe() {
        Ok(path) => path
            .strip_prefix(&here)
            .unwrap_or(&path)
            .display()
            .to_string(),
        Err(_) => "mainstay".to_owned(),
    }
}
