//! Every command explains itself, with an example that is one of its own.

use crate::{mainstay, stdout};

const COMMANDS: &[&[&str]] = &[
    &["up"],
    &["serve"],
    &["migrate", "up"],
    &["migrate", "down"],
    &["migrate", "status"],
    &["migrate", "bootstrap"],
    &["agency", "create"],
    &["config", "check"],
    &["config", "keys"],
    &["doctor"],
    &["demo"],
    &["trace"],
    &["saga", "list"],
    &["saga", "show"],
    &["reconcile", "stripe"],
    &["webhook", "list"],
    &["webhook", "show"],
    &["webhook", "replay"],
    &["webhook", "progress"],
    &["dead-letter", "list"],
    &["dead-letter", "replay"],
    &["dead-letter", "summary"],
];

#[test]
fn every_command_has_help_with_an_example() {
    for command in COMMANDS {
        let arguments: Vec<&str> = command.iter().copied().chain(["--help"]).collect();
        let output = mainstay(&arguments, &[]);
        let help = stdout(&output);
        assert!(output.status.success(), "{command:?}");
        let example = format!("mainstay {}", command.join(" "));
        assert!(
            help.contains("Example") && help.contains(&example),
            "{command:?} shows no example:\n{help}"
        );
    }
}

#[test]
fn only_commands_that_work_are_offered() {
    let help = stdout(&mainstay(&["--help"], &[]));
    for later in ["backup", "restore", "drill", "audit"] {
        assert!(
            !help.contains(&format!("\n  {later}")),
            "{later} is offered and does not exist:\n{help}"
        );
    }
    for command in COMMANDS {
        assert!(
            help.contains(&format!("\n  {}", command[0])),
            "{command:?} is not listed:\n{help}"
        );
    }
}
