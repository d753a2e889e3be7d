//! What commands print on standard output: text for people, or JSON with `--json`.
//! Deliberately absent: colours and progress bars. The output is read by scripts as often as by people.

use std::io::{self, Write};

use clap::Args;
use serde::Serialize;

/// The switch that every command which prints data has.
#[derive(Args, Clone, Copy, Debug)]
pub struct Format {
    /// Print JSON instead of text
    #[arg(long)]
    pub json: bool,
}

/// Prints a line. A reader that went away (`| head`) ends the program quietly, as with any other tool.
pub fn line(text: impl AsRef<str>) {
    let mut out = io::stdout().lock();
    let printed = writeln!(out, "{}", text.as_ref()).and_then(|()| out.flush());
    if printed.is_err() {
        std::process::exit(1);
    }
}

/// Prints a line on standard error; where even that is closed, nobody is left to tell.
pub fn note(text: impl AsRef<str>) {
    let _ = writeln!(io::stderr().lock(), "{}", text.as_ref());
}

/// Prints a value as indented JSON.
///
/// # Errors
/// When the value has no JSON form.
pub fn json(value: &impl Serialize) -> anyhow::Result<()> {
    line(serde_json::to_string_pretty(value)?);
    Ok(())
}

/// Prints rows below a heading, columns aligned; says so when there are none.
pub fn table(heading: &[&str], rows: &[Vec<String>], none: &str) {
    if rows.is_empty() {
        return line(none);
    }
    for text in aligned(heading, rows) {
        line(text);
    }
}

fn aligned(heading: &[&str], rows: &[Vec<String>]) -> Vec<String> {
    let heading: Vec<String> = heading.iter().map(ToString::to_string).collect();
    let all = || std::iter::once(&heading).chain(rows);
    let widths: Vec<usize> = (0..heading.len())
        .map(|column| {
            let cells = all().filter_map(|row| row.get(column));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
        })
        .collect();
    let text = |row: &Vec<String>| {
        let cells = row.iter().zip(&widths);
        let padded: Vec<String> = cells
            .map(|(cell, width)| format!("{cell:<width$}"))
            .collect();
        padded.join("  ").trim_end().to_owned()
    };
    all().map(text).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_lines_end_without_blanks() {
        let rows = vec![
            vec!["a".into(), "long cell".into()],
            vec!["bcd".into(), String::new()],
        ];
        assert_eq!(
            aligned(&["id", "what"], &rows),
            ["id   what", "a    long cell", "bcd"]
        );
    }
}
