//! `mainstay trace`: one story as a tree, from the spans that the instance kept in its data directory.
//! Deliberately absent: any need for a running instance. The story of a crash is read after the crash.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{BufRead, BufReader, ErrorKind};
use std::path::Path;

use anyhow::Context;
use clap::Args;
use mainstay_runtime::telemetry::{TraceFile, TraceLine};
use serde::Serialize;

use crate::data_dir::{DataDir, DataDirArg};
use crate::failure::refuse;
use crate::output::{self, Format};

/// Prints one story as a tree
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  mainstay trace 4bf92f3577b34da6a3ce929d0e0e4736
  mainstay trace 4bf92f3577b34da6a3ce929d0e0e4736 --json | jq .spans

The id is in the `traceparent` header of every answer, in every problem document and in every log line.")]
pub struct TraceArgs {
    /// 32 hexadecimal digits, or a whole `traceparent`
    trace_id: String,
    #[command(flatten)]
    data_dir: DataDirArg,
    #[command(flatten)]
    format: Format,
}

/// A span with what happened inside it.
#[derive(Debug, Serialize)]
struct Node {
    #[serde(flatten)]
    span: TraceLine,
    duration_ms: f64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    children: Vec<Node>,
}

/// A whole story.
#[derive(Debug, Serialize)]
struct Story {
    trace_id: String,
    span_count: usize,
    duration_ms: f64,
    spans: Vec<Node>,
}

/// Runs the command.
///
/// # Errors
/// When the id is none, or no span of it was kept.
pub fn run(args: &TraceArgs) -> anyhow::Result<()> {
    let trace_id = parse_id(&args.trace_id)?;
    let data_dir = DataDir::at(&args.data_dir)?;
    let path = data_dir.traces();
    let mut lines = Vec::new();
    let mut files = 0;
    for path in [TraceFile::older(&path), path.clone()] {
        files += usize::from(read(&path, &trace_id, &mut lines)?);
    }
    if files == 0 {
        return Err(refuse(
            format!(
                "{} does not exist: no instance has run on this data directory",
                path.display()
            ),
            "name the instance's directory with --data-dir",
        ));
    }
    if lines.is_empty() {
        return Err(refuse(
            format!("no span of trace {trace_id} is in {}", path.display()),
            "check the id; a trace of a request just made appears within a second, and very old ones are dropped",
        ));
    }
    let story = story(trace_id, lines);
    if args.format.json {
        return output::json(&story);
    }
    for line in draw(&story) {
        output::line(line);
    }
    Ok(())
}

fn parse_id(text: &str) -> anyhow::Result<String> {
    let id = match text.split('-').nth(1) {
        Some(inside) => inside,
        None => text,
    };
    if id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Ok(id.to_ascii_lowercase());
    }
    Err(refuse(
        format!("{text:?} is no trace id"),
        "give the 32 hexadecimal digits of a `traceparent` header, a problem document or a log line",
    ))
}

/// Adds the spans of one trace; false when there is no such file. A line that is cut off (the process was killed while
/// it wrote) is passed over.
fn read(path: &Path, trace_id: &str, into: &mut Vec<TraceLine>) -> anyhow::Result<bool> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error).context(format!("{} cannot be read", path.display())),
    };
    for line in BufReader::new(file).split(b'\n') {
        let line = line.with_context(|| format!("{} cannot be read", path.display()))?;
        if !contains(&line, trace_id.as_bytes()) {
            continue;
        }
        if let Ok(span) = serde_json::from_slice::<TraceLine>(&line)
            && span.trace_id == trace_id
        {
            into.push(span);
        }
    }
    Ok(true)
}

fn contains(line: &[u8], part: &[u8]) -> bool {
    line.windows(part.len()).any(|window| window == part)
}

fn story(trace_id: String, mut lines: Vec<TraceLine>) -> Story {
    lines.sort_by_key(|span| (span.start_unix_nanos, span.end_unix_nanos));
    let start = lines.iter().map(|span| span.start_unix_nanos).min();
    let end = lines.iter().map(|span| span.end_unix_nanos).max();
    let known: BTreeSet<String> = lines.iter().map(|span| span.span_id.clone()).collect();
    let span_count = lines.len();
    let mut roots = Vec::new();
    let mut inside: BTreeMap<String, Vec<TraceLine>> = BTreeMap::new();
    for span in lines {
        // The parent may be the caller's own, outside of what we record.
        match span
            .parent_span_id
            .clone()
            .filter(|id| known.contains(id) && *id != span.span_id)
        {
            Some(parent) => inside.entry(parent).or_default().push(span),
            None => roots.push(span),
        }
    }
    Story {
        trace_id,
        span_count,
        duration_ms: milliseconds(start.unwrap_or(0), end.unwrap_or(0)),
        spans: roots
            .into_iter()
            .map(|span| node(span, &mut inside))
            .collect(),
    }
}

fn node(span: TraceLine, inside: &mut BTreeMap<String, Vec<TraceLine>>) -> Node {
    // Each span is taken out of the map once, so that damaged input cannot make this go round for ever.
    let children = inside.remove(&span.span_id).unwrap_or_default();
    Node {
        duration_ms: milliseconds(span.start_unix_nanos, span.end_unix_nanos),
        children: children
            .into_iter()
            .map(|child| node(child, inside))
            .collect(),
        span,
    }
}

#[expect(clippy::cast_precision_loss, reason = "a duration for the eye")]
fn milliseconds(start: u64, end: u64) -> f64 {
    (end.saturating_sub(start) / 1000) as f64 / 1000.0
}

fn draw(story: &Story) -> Vec<String> {
    let mut rows = Vec::new();
    let start = story
        .spans
        .iter()
        .map(|node| node.span.start_unix_nanos)
        .min();
    for node in &story.spans {
        branch(node, "", "", start.unwrap_or(0), &mut rows);
    }
    let width = rows.iter().map(|row: &Row| row.tree.chars().count()).max();
    let width = width.unwrap_or(0);
    let mut lines = vec![
        format!(
            "trace {}: {} spans in {:.1} ms",
            story.trace_id, story.span_count, story.duration_ms
        ),
        format!(
            "{:width$}  {:>10}  {:>10}  status",
            "", "after ms", "took ms"
        ),
    ];
    lines.extend(rows.iter().map(|row| {
        format!(
            "{:width$}  {:>10.1}  {:>10.1}  {}",
            row.tree, row.after_ms, row.took_ms, row.status
        )
    }));
    lines
}

struct Row {
    tree: String,
    after_ms: f64,
    took_ms: f64,
    status: String,
}

fn branch(node: &Node, lead: &str, below: &str, start: u64, rows: &mut Vec<Row>) {
    let span = &node.span;
    let status = match (span.status.as_str(), span.status_message.as_str()) {
        ("error", "") => "ERROR".to_owned(),
        ("error", message) => format!("ERROR {message}"),
        _ => "ok".to_owned(),
    };
    rows.push(Row {
        tree: format!("{lead}{}  {}", span.service, span.name),
        after_ms: milliseconds(start, span.start_unix_nanos),
        took_ms: node.duration_ms,
        status,
    });
    for (index, child) in node.children.iter().enumerate() {
        let (lead, deeper) = match index + 1 == node.children.len() {
            true => ("└─ ", "   "),
            false => ("├─ ", "│  "),
        };
        branch(
            child,
            &format!("{below}{lead}"),
            &format!("{below}{deeper}"),
            start,
            rows,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(id: &str, parent: Option<&str>, name: &str, start: u64, end: u64) -> TraceLine {
        TraceLine {
            trace_id: "t".into(),
            span_id: id.into(),
            parent_span_id: parent.map(str::to_owned),
            name: name.into(),
            service: "billing".into(),
            kind: "server".into(),
            start_unix_nanos: start * 1_000_000,
            end_unix_nanos: end * 1_000_000,
            status: if name == "fails" { "error" } else { "unset" }.into(),
            status_message: String::new(),
            attributes: BTreeMap::new(),
            events: Vec::new(),
            links: Vec::new(),
        }
    }

    #[test]
    fn spans_in_any_order_become_one_tree_in_time_order() {
        let lines = vec![
            span("c", Some("a"), "second", 5, 9),
            span("d", Some("b"), "fails", 2, 3),
            span("b", Some("a"), "first", 1, 4),
            span("a", Some("of-the-caller"), "request", 0, 10),
        ];
        let drawn = draw(&story("t".into(), lines));
        let trees: Vec<&str> = drawn[2..]
            .iter()
            .map(|line| line.split("   ").next().unwrap_or(""))
            .collect();
        assert_eq!(trees[0], "billing  request");
        assert_eq!(trees[1], "├─ billing  first");
        assert!(drawn[4].starts_with("│  └─ billing  fails") && drawn[4].ends_with("ERROR"));
        assert_eq!(trees[3], "└─ billing  second");
    }

    #[test]
    fn a_ring_of_parents_ends() {
        let lines = vec![
            span("a", Some("b"), "one", 0, 1),
            span("b", Some("a"), "two", 0, 1),
        ];
        assert!(story("t".into(), lines).spans.is_empty());
    }

    #[test]
    fn the_id_may_come_as_a_traceparent() {
        let id = "4bf92f3577b34da6a3ce929d0e0e4736";
        assert_eq!(parse_id(id).expect("an id"), id);
        assert_eq!(
            parse_id(&format!("00-{id}-00f067aa0ba902b7-01")).expect("an id"),
            id
        );
        assert!(parse_id("4bf9").is_err());
    }
}
