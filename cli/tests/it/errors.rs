//! What goes wrong is told on standard error, with the cause and the next step, and never with status 0.

use crate::{mainstay, stderr, stdout};

#[test]
fn a_client_command_without_an_instance_says_how_to_start_one() {
    let commands: &[&[&str]] = &[
        &["demo", "--data-dir", "nowhere"],
        &["saga", "list", "--data-dir", "nowhere"],
        &["webhook", "list", "--data-dir", "nowhere", "--json"],
        &["migrate", "status", "--data-dir", "nowhere"],
    ];
    for arguments in commands {
        let output = mainstay(arguments, &[]);
        let said = stderr(&output);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}");
        assert!(
            said.contains("no instance is running")
                && said.contains("next: ")
                && said.contains("mainstay up"),
            "{said}"
        );
        assert_eq!(stdout(&output), "", "{arguments:?}");
    }
}

#[test]
fn a_trace_that_is_none_is_refused_and_one_that_is_unknown_is_said_to_be() {
    let malformed = mainstay(&["trace", "xyz", "--data-dir", "nowhere"], &[]);
    assert_eq!(malformed.status.code(), Some(1));
    assert!(
        stderr(&malformed).contains("no trace id"),
        "{}",
        stderr(&malformed)
    );

    let id = "4bf92f3577b34da6a3ce929d0e0e4736";
    let nowhere = mainstay(&["trace", id, "--data-dir", "nowhere"], &[]);
    assert_eq!(nowhere.status.code(), Some(1));
    assert!(
        stderr(&nowhere).contains("no instance has run"),
        "{}",
        stderr(&nowhere)
    );

    let folder = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("cli-traces");
    std::fs::create_dir_all(&folder).expect("a scratch folder");
    let span = format!(
        r#"{{"trace_id":"{id}","span_id":"00f067aa0ba902b7","parent_span_id":null,"name":"POST /v1/plans","service":"gateway","kind":"server","start_unix_nanos":1000000,"end_unix_nanos":3500000,"status":"ok","attributes":{{}}}}"#
    );
    // The last line is cut off, as after a kill.
    std::fs::write(
        folder.join("traces.jsonl"),
        format!("{span}\n{}", &span[..40]),
    )
    .expect("the trace file");
    let folder = folder.to_str().expect("a path of text");
    let known = mainstay(&["trace", id, "--data-dir", folder], &[]);
    assert!(known.status.success(), "{}", stderr(&known));
    assert!(
        stdout(&known).contains("gateway  POST /v1/plans"),
        "{}",
        stdout(&known)
    );
    let unknown = mainstay(&["trace", &id.replace('4', "5"), "--data-dir", folder], &[]);
    assert_eq!(unknown.status.code(), Some(1));
    assert!(
        stderr(&unknown).contains("no span of trace"),
        "{}",
        stderr(&unknown)
    );
}

#[test]
fn the_simulators_and_up_are_refused_in_production() {
    let production = [("MAINSTAY_ENVIRONMENT", "production")];
    for arguments in [
        &["serve", "sandbox", "--listen", "127.0.0.1:0"][..],
        &["up", "--data-dir", "in-production"][..],
    ] {
        let output = mainstay(arguments, &production);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}");
        assert!(
            stderr(&output).contains("production"),
            "{}",
            stderr(&output)
        );
    }
}
