//! Finds what would break the version that still runs, or lock a table for long. By lines, on purpose: the files are
//! ours and say one thing a line. Deliberately absent: judgement. `-- mainstay:allow <why>` on the line above is a person's.

use std::collections::BTreeSet;

use super::{Migration, Migrations, Set};

/// A dangerous line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Danger {
    /// `billing/2026…_plan.up.sql:12`.
    pub place: String,
    /// What is dangerous about it.
    pub why: &'static str,
}

const ALLOW: &str = "-- mainstay:allow ";

/// Looks through all files, oldest first.
pub fn lint(migrations: &Migrations) -> Vec<Danger> {
    let mut dangers = Vec::new();
    let core = migrations.of(Set::Core, "").unwrap_or_default();
    look(&mut dangers, "_core", core);
    for service in migrations.services() {
        look(
            &mut dangers,
            service,
            migrations.of(Set::Service, service).unwrap_or_default(),
        );
    }
    dangers
}

fn look(dangers: &mut Vec<Danger>, set: &str, files: &[Migration]) {
    let mut older_tables: BTreeSet<String> = BTreeSet::new();
    for file in files {
        let mut own_tables = BTreeSet::new();
        let mut allowed = false;
        // The table an `alter table` that goes on over several lines is about.
        let mut altered = String::new();
        for (number, line) in file.up.lines().enumerate() {
            let text = line.trim().to_ascii_lowercase();
            if line.trim_start().starts_with(ALLOW) && text.len() > ALLOW.len() {
                allowed = true;
                continue;
            }
            if let Some(table) = word_after(&text, "create table ") {
                own_tables.insert(table);
            }
            if let Some(table) = word_after(&text, "alter table ") {
                altered = table;
            }
            let why = danger(&text, &altered, &older_tables);
            if let Some(why) = why
                && !allowed
            {
                dangers.push(Danger {
                    place: format!("{set}/{}:{}", file.file_name("up"), number + 1),
                    why,
                });
            }
            if text.ends_with(';') {
                altered.clear();
            }
            allowed = false;
        }
        older_tables.extend(own_tables);
    }
}

fn danger(text: &str, altered: &str, older: &BTreeSet<String>) -> Option<&'static str> {
    if text.contains("security definer") {
        return Some("security definer steps over row security");
    }
    if let Some(table) = word_after(text, "drop table ") {
        return older
            .contains(&table)
            .then_some("the running version still reads this table");
    }
    if text.starts_with("create index") || text.starts_with("create unique index") {
        let table = word_after(text, " on ")?;
        return (older.contains(&table) && !text.contains("concurrently")).then_some(
            "locks writes while it is built: create index concurrently, in a file of its own",
        );
    }
    if !older.contains(altered) {
        return None;
    }
    [
        ("drop column", "the running version still reads this column"),
        ("rename", "the running version knows the old name"),
        (" type ", "rewrites the table under an exclusive lock"),
        (
            "set not null",
            "scans the table under an exclusive lock: add a check not valid, validate, then set",
        ),
    ]
    .into_iter()
    .find(|(pattern, _)| text.contains(pattern))
    .map(|(_, why)| why)
}

fn word_after(text: &str, before: &str) -> Option<String> {
    let rest = text
        .split_once(before)?
        .1
        .trim_start_matches("if exists ")
        .trim_start_matches("if not exists ");
    let word: String = rest
        .chars()
        .take_while(|c| c.is_alphanumeric() || *c == '_')
        .collect();
    (!word.is_empty()).then_some(word)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dangers_of(second: &str) -> usize {
        let files = [
            (
                "s/20260101000000_a.up.sql",
                "create table plan (\n  id uuid\n);\ncreate index i on plan (id);",
            ),
            ("s/20260101000000_a.down.sql", "drop table plan;"),
            ("s/20260102000000_b.up.sql", second),
            ("s/20260102000000_b.down.sql", ""),
        ];
        lint(&Migrations::from_files(files).expect("well named")).len()
    }

    #[test]
    fn what_breaks_the_running_version_is_found() {
        assert_eq!(dangers_of("alter table plan add column note text;"), 0);
        assert_eq!(
            dangers_of("create table other (id uuid);\ncreate index j on other (id);"),
            0
        );
        for bad in [
            "alter table plan drop column name;",
            "alter table plan\n  rename column name to title;",
            "alter table plan alter column id type text;",
            "alter table plan alter column id set not null;",
            "create index j on plan (id);",
            "drop table plan;",
            "create function f() returns void language sql security definer as '';",
        ] {
            assert_eq!(dangers_of(bad), 1, "{bad}");
            assert_eq!(
                dangers_of(&format!("-- mainstay:allow empty table\nselect 1;\n{bad}")),
                1,
                "{bad}"
            );
        }
        assert_eq!(
            dangers_of("-- mainstay:allow no release has it yet\ndrop table plan;"),
            0
        );
    }
}
