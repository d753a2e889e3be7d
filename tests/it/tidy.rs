//! The conventions of the repository, checked as reviewers would: what each file opens with, how long it is, what nothing is
//! called, what must come in pairs, and that what the documents name exists.
//! Deliberately absent: taste. What a machine cannot judge is left to people.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use mainstay_tests::platform::binary;

/// A file longer than this owns too much.
const LONGEST: usize = 600;
/// And nine of ten stay below this.
const LONG: usize = 400;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Every file that belongs to the repository, by its path from the root.
fn files() -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut folders = vec![root()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a readable folder").flatten() {
            let path = entry.path();
            let name = entry.file_name().to_string_lossy().into_owned();
            if path.is_dir() {
                if !matches!(
                    name.as_str(),
                    "target" | ".git" | ".mainstay" | ".sqlx" | "__pycache__" | "node_modules"
                ) {
                    folders.push(path);
                }
            } else if let Ok(text) = fs::read_to_string(&path) {
                let short = path.strip_prefix(root()).expect("below the root");
                found.push((short.to_string_lossy().into_owned(), text));
            }
        }
    }
    assert!(
        found.len() > 100,
        "the walk found only {} files",
        found.len()
    );
    found.sort();
    found
}

fn rust_files() -> Vec<(String, String)> {
    files()
        .into_iter()
        .filter(|(path, _)| path.ends_with(".rs"))
        .collect()
}

fn none(what: &str, found: &[String]) {
    assert!(found.is_empty(), "{what}:\n  {}", found.join("\n  "));
}

#[test]
fn every_rust_file_opens_with_what_it_owns() {
    let silent: Vec<String> = rust_files()
        .into_iter()
        .filter(|(_, text)| !text.starts_with("//! "))
        .map(|(path, _)| path)
        .collect();
    none("files that do not open with `//!`", &silent);
}

#[test]
fn files_stay_short() {
    let lengths: Vec<(String, usize)> = rust_files()
        .into_iter()
        .map(|(path, text)| (path, text.lines().count()))
        .collect();
    let too_long: Vec<String> = lengths
        .iter()
        .filter(|(_, lines)| *lines > LONGEST)
        .map(|(path, lines)| format!("{path}: {lines} lines"))
        .collect();
    none("files over 600 lines", &too_long);
    let long = lengths.iter().filter(|(_, lines)| *lines > LONG).count();
    assert!(
        long * 10 <= lengths.len(),
        "{long} of {} files are over {LONG} lines",
        lengths.len()
    );
}

#[test]
fn nothing_is_called_by_a_name_that_says_nothing() {
    let mut found = Vec::new();
    for (path, text) in rust_files() {
        for line in text.lines() {
            let mut words = line
                .split(|c: char| !c.is_alphanumeric() && c != '_')
                .filter(|word| !word.is_empty());
            let declares = words.any(|word| matches!(word, "struct" | "enum" | "trait" | "type"));
            let declared = words
                .next()
                .filter(|_| declares && !line.trim_start().starts_with("//"));
            if let Some(name) = declared
                && ["Manager", "Helper", "Util", "Utils"]
                    .iter()
                    .any(|empty| name.ends_with(empty))
            {
                found.push(format!("{path}: {name}"));
            }
        }
    }
    none("types with empty names", &found);
}

#[test]
fn nothing_is_left_for_later_and_no_test_is_switched_off() {
    // Spelled in parts, so that this file does not find itself.
    let marks = [
        concat!("TO", "DO"),
        concat!("FIX", "ME"),
        concat!("#[ig", "nore"),
        concat!("todo", "!("),
        concat!("unimplemented", "!("),
    ];
    let mut found = Vec::new();
    for (path, text) in rust_files() {
        for (number, line) in text.lines().enumerate() {
            if marks.iter().any(|mark| line.contains(mark)) {
                found.push(format!("{path}:{}: {}", number + 1, line.trim()));
            }
        }
    }
    none("unfinished marks", &found);
}

#[test]
fn no_file_knows_the_machine_it_was_written_on() {
    let mut found = Vec::new();
    for (path, text) in files() {
        if path == "Cargo.lock" || path == "LICENSE" {
            continue;
        }
        for (number, line) in text.lines().enumerate() {
            let knows = [
                concat!("/ro", "ot/"),
                concat!("/wo", "rk/"),
                concat!("/ho", "me/"),
            ]
            .iter()
            .any(|place| line.contains(place));
            if knows {
                found.push(format!("{path}:{}: {}", number + 1, line.trim()));
            }
        }
    }
    none("paths of one machine", &found);
}

#[test]
fn every_migration_has_its_way_back() {
    let all: BTreeSet<String> = files()
        .into_iter()
        .map(|(path, _)| path)
        .filter(|path| path.starts_with("migrations/"))
        .collect();
    let alone: Vec<String> = all
        .iter()
        .filter_map(|path| {
            let other = match path.strip_suffix(".up.sql") {
                Some(stem) => format!("{stem}.down.sql"),
                None => format!("{}.up.sql", path.strip_suffix(".down.sql")?),
            };
            (!all.contains(&other)).then(|| format!("{path} has no {other}"))
        })
        .collect();
    none("migrations in one direction only", &alone);
}

/// Everything that runs in production: neither simulators nor tests.
fn product_files() -> impl Iterator<Item = (String, String)> {
    let ours = |path: &str| {
        !path.starts_with("libs/sandbox/")
            && !path.starts_with("tests/")
            && !path.contains("/tests/")
            && !path.ends_with("/tests.rs")
    };
    rust_files().into_iter().filter(move |(path, _)| ours(path))
}

#[test]
fn messages_leave_through_one_door() {
    // How providers' doors are spelled; quotes so that a sentence about one is none.
    let doors = [
        "/Messages.json\"",
        "/Messages\"",
        "/Calls.json\"",
        "\"/emails\"",
        "/mail/send\"",
    ];
    let mut found = Vec::new();
    let (mut calls, mut sends) = (0, Vec::new());
    for (path, text) in product_files() {
        let carries = path == "services/messaging/src/carrier.rs"
            || path.starts_with("services/messaging/src/carrier/");
        for door in doors.into_iter().filter(|door| text.contains(door)) {
            calls += 1;
            if !carries {
                found.push(format!("{path}: {door}"));
            }
        }
        // However it is broken into lines.
        let dense: String = text.split_whitespace().collect();
        for _ in 0..dense.matches("carriers.send(").count() {
            sends.push(path.clone());
        }
        let adapters = dense.matches("::send(self,").count();
        if path.starts_with("services/messaging/") && adapters > 0 && !carries {
            found.push(format!("{path}: an adapter is called"));
        }
    }
    assert!(calls >= 3, "the doors are spelled otherwise by now");
    none("ways to a provider beside the carriers", &found);
    assert_eq!(sends, ["services/messaging/src/sending.rs"]);
}

#[test]
fn a_message_waits_tries_and_is_permitted_in_few_places() {
    let places = [
        (
            "insert into send_queue",
            &[
                "services/messaging/src/message/sql.rs",
                "services/messaging/src/sending/settle/sql.rs",
            ][..],
        ),
        (
            "insert into message_attempt",
            &["services/messaging/src/sending/release/sql.rs"],
        ),
        (
            "insert into send_permit",
            &["services/messaging/src/sending/release/sql.rs"],
        ),
    ];
    for (what, wanted) in places {
        let found: Vec<String> = product_files()
            .filter(|(_, text)| text.contains(what))
            .map(|(path, _)| path)
            .collect();
        assert_eq!(found, wanted, "{what}");
    }
}

#[test]
fn every_crate_takes_the_lints_of_the_workspace() {
    let crates = files()
        .into_iter()
        .filter(|(path, _)| path.ends_with("/Cargo.toml"));
    let without: Vec<String> = crates
        .filter(|(_, text)| !text.contains("[lints]\nworkspace = true"))
        .map(|(path, _)| path)
        .collect();
    none("crates with lints of their own", &without);
}

#[test]
fn links_between_documents_lead_somewhere() {
    let mut broken = Vec::new();
    for (path, text) in files()
        .into_iter()
        .filter(|(path, _)| path.ends_with(".md"))
    {
        let folder = root().join(&path);
        let folder = folder.parent().expect("a file is in a folder");
        for target in text
            .split("](")
            .skip(1)
            .filter_map(|rest| rest.split(')').next())
        {
            let file = target.split('#').next().unwrap_or_default();
            let elsewhere =
                target.contains("://") || target.starts_with("mailto:") || file.is_empty();
            if !elsewhere && !folder.join(file).exists() {
                broken.push(format!("{path}: {target}"));
            }
        }
    }
    none("links that lead nowhere", &broken);
}

#[test]
fn the_commands_that_documents_name_exist() {
    let makefile = fs::read_to_string(root().join("Makefile")).expect("the Makefile");
    let mut unknown = Vec::new();
    let mut tried = BTreeSet::new();
    for (path, text) in files()
        .into_iter()
        .filter(|(path, _)| path.ends_with(".md"))
    {
        for line in commands_in(&text) {
            let words: Vec<&str> = line.split_whitespace().collect();
            match words.as_slice() {
                ["make", target, ..] if !makefile.contains(&format!("\n{target}:")) => {
                    unknown.push(format!("{path}: {line}"))
                }
                ["mainstay", rest @ ..] => {
                    // Words up to the first argument are the command.
                    let is_word = |word: &&&str| {
                        word.chars().all(|c| c.is_ascii_lowercase() || c == '-')
                            && !word.starts_with('-')
                    };
                    let command: Vec<String> = rest
                        .iter()
                        .take_while(is_word)
                        .take(2)
                        .map(ToString::to_string)
                        .collect();
                    if !command.is_empty() && tried.insert(command.clone()) && !exists(&command) {
                        unknown.push(format!("{path}: {line}"));
                    }
                }
                _ => {}
            }
        }
    }
    assert!(tried.len() >= 5, "the documents name only {tried:?}");
    none("commands that do not exist", &unknown);
}

/// What stands in backticks, and the lines of code blocks.
fn commands_in(text: &str) -> Vec<String> {
    let mut commands = Vec::new();
    let mut in_block = false;
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            in_block = !in_block;
        } else if in_block {
            let command = line.trim().trim_start_matches("$ ");
            commands.push(
                command
                    .split(" #")
                    .next()
                    .unwrap_or_default()
                    .trim()
                    .to_owned(),
            );
        } else {
            commands.extend(line.split('`').skip(1).step_by(2).map(str::to_owned));
        }
    }
    commands
}

/// Whether the binary knows a command: by its two words, or by the first when the second is an argument.
fn exists(command: &[String]) -> bool {
    let binary = binary().expect("the binary");
    let known = |words: &[String]| {
        let output = Command::new(&binary)
            .args(words)
            .arg("--help")
            .output()
            .expect("the binary runs");
        output.status.success()
    };
    known(command)
}
