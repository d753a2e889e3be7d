//! Up, down, up; replicas that migrate at once; files edited after the fact; and the files themselves.

use std::fs;

use mainstay_db::migrate::{self, Down, MigrateError, Migrations, Set};
use mainstay_testkit::{TestDatabase, postgres};
use sqlx::AssertSqlSafe;

/// Everything in a schema that migrations make, as text.
const FINGERPRINT: &str = "
select coalesce(string_agg(line, e'\\n' order by line), '') from (
  select format('column %s.%s %s %s %s', c.relname, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull,
                pg_get_expr(d.adbin, d.adrelid)) as line
    from pg_attribute a join pg_class c on c.oid = a.attrelid
    left join pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum
    where c.relnamespace = $1::regnamespace and c.relkind in ('r', 'p', 'v') and a.attnum > 0 and not a.attisdropped
  union all select format('table %s %s rls=%s force=%s acl=%s options=%s', c.relname, c.relkind, c.relrowsecurity,
                c.relforcerowsecurity, c.relacl, c.reloptions)
    from pg_class c where c.relnamespace = $1::regnamespace and c.relkind in ('r', 'p', 'v', 'S')
  union all select format('constraint %s %s %s', conrelid::regclass, conname, pg_get_constraintdef(oid))
    from pg_constraint where connamespace = $1::regnamespace
  union all select format('index %s', indexdef) from pg_indexes where schemaname = $1
  union all select format('policy %s %s %s %s %s %s', tablename, policyname, cmd, roles, qual, with_check)
    from pg_policies where schemaname = $1
  union all select format('trigger %s', pg_get_triggerdef(t.oid))
    from pg_trigger t join pg_class c on c.oid = t.tgrelid where c.relnamespace = $1::regnamespace and not t.tgisinternal
  union all select format('function %s %s', pg_get_functiondef(oid), proacl)
    from pg_proc where pronamespace = $1::regnamespace and prokind in ('f', 'p')
  union all select format('type %s %s', typname, typtype) from pg_type
    where typnamespace = $1::regnamespace and typtype in ('e', 'd')
) lines";

async fn fingerprint(test: &TestDatabase, schema: &str) -> String {
    let mut admin = test.admin().await;
    let mut text: String = sqlx::query_scalar(FINGERPRINT)
        .bind(schema)
        .fetch_one(&mut admin)
        .await
        .unwrap();
    // The rows of this table are part of what migrations make.
    let has_retention: bool = sqlx::query_scalar("select to_regclass($1) is not null")
        .bind(format!("{schema}.retention"))
        .fetch_one(&mut admin)
        .await
        .unwrap();
    if has_retention {
        let rows: Vec<String> = sqlx::query_scalar(AssertSqlSafe(format!(
            "select table_name || ' ' || only_when from {schema}.retention order by 1"
        )))
        .fetch_all(&mut admin)
        .await
        .unwrap();
        text.push_str(&rows.join("\n"));
    }
    text
}

/// Empty for two that are equal, otherwise the lines that only one of them has, so that a failure can be read.
fn differing(after: &str, before: &str) -> String {
    if after == before {
        return String::new();
    }
    let only = |sign: char, here: &str, there: &str| {
        let lines = here
            .lines()
            .filter(|line| there.lines().all(|other| other != *line));
        lines
            .map(|line| format!("{sign} {line}\n"))
            .collect::<String>()
    };
    format!(
        "they differ\n{}{}",
        only('-', before, after),
        only('+', after, before)
    )
}

/// All files up to the n-th of the service.
fn first(all: &Migrations, service: &str, n: usize) -> Migrations {
    let core = all
        .of(Set::Core, service)
        .unwrap()
        .iter()
        .map(|m| ("_core", m));
    let own = all
        .of(Set::Service, service)
        .unwrap()
        .iter()
        .take(n)
        .map(|m| (service, m));
    let files = core.chain(own).flat_map(|(set, m)| {
        [("up", &m.up), ("down", &m.down)]
            .map(|(d, text)| (format!("{set}/{}", m.file_name(d)), text.clone()))
    });
    Migrations::from_files(files).unwrap()
}

#[tokio::test]
async fn every_file_down_undoes_its_file_up() {
    let test = TestDatabase::unmigrated().await;
    let all = postgres::migrations();
    for service in all.services() {
        let url = test.migrator_url(service);
        let own = all.of(Set::Service, service).unwrap().len();
        let mut before = Vec::new();
        for n in 0..=own {
            migrate::up(&url, service, &first(&all, service, n), false)
                .await
                .unwrap();
            before.push(fingerprint(&test, service).await);
        }
        let full = before.pop().unwrap();
        for n in (0..own).rev() {
            let files = first(&all, service, n + 1);
            let undone = migrate::down(&url, service, &files, Down::Steps(1), false)
                .await
                .unwrap();
            assert_eq!(
                differing(&fingerprint(&test, service).await, &before[n]),
                "",
                "{service}: {undone:?}"
            );
        }
        migrate::up(&url, service, &all, false).await.unwrap();
        assert_eq!(
            fingerprint(&test, service).await,
            full,
            "{service}: up again"
        );
        migrate::down(&url, service, &all, Down::Everything, false)
            .await
            .unwrap();
        assert_eq!(
            fingerprint(&test, service).await,
            "",
            "{service}: nothing stays"
        );
        migrate::up(&url, service, &all, false).await.unwrap();
        assert_eq!(
            fingerprint(&test, service).await,
            full,
            "{service}: from nothing again"
        );
    }
}

#[tokio::test]
async fn replicas_that_migrate_at_once_take_turns() {
    let test = TestDatabase::unmigrated().await;
    let all = postgres::migrations();
    let url = test.migrator_url("billing");
    let runs = (0..6).map(|_| {
        let (all, url) = (all.clone(), url.clone());
        tokio::spawn(async move {
            migrate::up(&url, "billing", &all, false)
                .await
                .unwrap()
                .len()
        })
    });
    let mut applied = 0;
    for run in runs.collect::<Vec<_>>() {
        applied += run.await.unwrap();
    }
    let files = all.of(Set::Core, "billing").unwrap().len()
        + all.of(Set::Service, "billing").unwrap().len();
    assert_eq!(applied, files, "each file once");
}

#[tokio::test]
async fn a_dry_run_changes_nothing() {
    let test = TestDatabase::unmigrated().await;
    let all = postgres::migrations();
    let url = test.migrator_url("billing");
    let would = migrate::up(&url, "billing", &all, true).await.unwrap();
    let status = migrate::status(&url, "billing", &all).await.unwrap();
    assert_eq!(status.pending, would);
    assert!(status.applied.is_empty() && !would.is_empty());
}

#[tokio::test]
async fn a_failing_file_leaves_nothing_and_is_named() {
    let test = TestDatabase::unmigrated().await;
    let files = Migrations::from_files([
        (
            "billing/20260101000000_half.up.sql",
            "create table whole (id int);\nselect 1 / 0;",
        ),
        ("billing/20260101000000_half.down.sql", ""),
    ])
    .unwrap();
    let error = migrate::up(&test.migrator_url("billing"), "billing", &files, false)
        .await
        .unwrap_err();
    assert!(
        error
            .to_string()
            .starts_with("migrations/billing/20260101000000_half.up.sql"),
        "{error}"
    );
    assert_eq!(
        test.count("select count(*) from pg_tables where tablename = 'whole'")
            .await,
        0
    );
}

#[tokio::test]
async fn an_edited_file_is_noticed() {
    let test = TestDatabase::unmigrated().await;
    let url = test.migrator_url("billing");
    let with = |text: &str| {
        Migrations::from_files([
            ("billing/20260101000000_a.up.sql", text.to_owned()),
            ("billing/20260101000000_a.down.sql", String::new()),
        ])
        .unwrap()
    };
    migrate::up(&url, "billing", &with("select 1"), false)
        .await
        .unwrap();
    let error = migrate::up(&url, "billing", &with("select 2"), false)
        .await
        .unwrap_err();
    assert!(matches!(error, MigrateError::Drift { .. }), "{error}");
}

#[tokio::test]
async fn a_file_can_ask_to_run_outside_a_transaction() {
    let test = TestDatabase::unmigrated().await;
    let files = Migrations::from_files([
        ("billing/20260101000000_a.up.sql", "create table a (id int)"),
        ("billing/20260101000000_a.down.sql", "drop table a"),
        (
            "billing/20260102000000_b.up.sql",
            "-- mainstay:no-transaction\ncreate index concurrently a_idx on a (id)",
        ),
        ("billing/20260102000000_b.down.sql", "drop index a_idx"),
    ])
    .unwrap();
    let done = migrate::up(&test.migrator_url("billing"), "billing", &files, false)
        .await
        .unwrap();
    assert_eq!(done.len(), 2);
}

#[test]
fn no_file_would_break_the_version_that_runs() {
    let dangers = migrate::lint(&postgres::migrations());
    assert!(dangers.is_empty(), "{dangers:#?}");
}

#[test]
fn no_file_names_a_schema_or_a_role() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../migrations");
    for folder in fs::read_dir(root)
        .unwrap()
        .map(|e| e.unwrap().path())
        .filter(|p| p.is_dir())
    {
        for file in fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()) {
            let text = fs::read_to_string(&file).unwrap().to_lowercase();
            let code: String = text
                .lines()
                .map(|l| l.split("--").next().unwrap_or(l))
                .collect::<Vec<_>>()
                .join("\n");
            for word in [
                "identity.",
                "billing.",
                "messaging.",
                "escalation.",
                "integrations.",
                "public.",
                "create role",
                "set role",
            ] {
                let quoted = format!("'{word}"); // event names and permissions are text, not names
                assert!(
                    !code.replace(&quoted, "").contains(word),
                    "{}: {word}",
                    file.display()
                );
            }
        }
    }
}
