//! PostgreSQL's own programs: where they are, and how they are called. Deliberately absent: any decision when to.

use std::{
    fs,
    path::{Path, PathBuf},
};

use super::{LocalError, LocalOptions, account::Account, file_error};

const OLDEST: u32 = 15;

/// The programs of one PostgreSQL.
#[derive(Debug, Clone)]
pub(super) struct Binaries {
    dir: PathBuf,
}

impl Binaries {
    /// The newest installed, of those new enough.
    pub(super) fn find(given: Option<&Path>) -> Result<Self, LocalError> {
        if let Some(dir) = given {
            return if is_complete(dir) {
                Ok(Self {
                    dir: dir.to_owned(),
                })
            } else {
                Err(LocalError::NotInstalled {
                    looked: dir.display().to_string(),
                })
            };
        }
        // Debian and Ubuntu; Red Hat; Homebrew.
        let roots = [
            ("/usr/lib/postgresql", ""),
            ("/usr", "pgsql-"),
            ("/opt/homebrew/opt", "postgresql@"),
            ("/usr/local/opt", "postgresql@"),
        ];
        let mut found: Vec<(u32, PathBuf)> = Vec::new();
        for (root, before) in roots {
            for entry in fs::read_dir(root).into_iter().flatten().flatten() {
                let name = entry.file_name();
                let version = name
                    .to_string_lossy()
                    .strip_prefix(before)
                    .and_then(|v| v.parse().ok());
                let dir = entry.path().join("bin");
                if let Some(version) = version
                    && version >= OLDEST
                    && is_complete(&dir)
                {
                    found.push((version, dir));
                }
            }
        }
        found
            .into_iter()
            .max()
            .map(|(_, dir)| Self { dir })
            .ok_or_else(|| LocalError::NotInstalled {
                looked: roots
                    .map(|(root, before)| format!("{root}/{before}*/bin"))
                    .join(", "),
            })
    }

    pub(super) fn into_dir(self) -> PathBuf {
        self.dir
    }

    pub(super) fn path(&self, program: &str) -> String {
        self.dir.join(program).to_string_lossy().into_owned()
    }
}

fn is_complete(dir: &Path) -> bool {
    ["initdb", "pg_ctl", "postgres"]
        .iter()
        .all(|program| dir.join(program).is_file())
}

pub(super) async fn initdb(
    binaries: &Binaries,
    account: &Account,
    pgdata: &Path,
    password: &Path,
) -> Result<(), LocalError> {
    let mut command = account.command(&binaries.path("initdb"));
    command
        .arg("-D")
        .arg(pgdata)
        .arg("--pwfile")
        .arg(password)
        .args([
            "--username=postgres",
            "--auth=scram-sha-256",
            "--encoding=UTF8",
            "--locale=C.UTF-8",
            // The same order, compared as bytes and not by the C library.
            "--lc-collate=C",
            "--data-checksums",
        ]);
    run("initdb", command).await
}

pub(super) async fn start(
    binaries: &Binaries,
    account: &Account,
    pgdata: &Path,
    port: u16,
    options: &LocalOptions,
) -> Result<(), LocalError> {
    let on = |yes: bool| if yes { "on" } else { "off" };
    let settings = [
        format!("port={port}"),
        "listen_addresses=127.0.0.1".to_owned(),
        "unix_socket_directories=".to_owned(),
        format!("max_connections={}", options.max_connections),
        format!("fsync={}", on(options.durable)),
        format!("synchronous_commit={}", on(options.durable)),
        format!("full_page_writes={}", on(options.durable)),
        // A test's databases are dropped before anything in them wants cleaning, and the drop would wait for the cleaner.
        format!("autovacuum={}", on(options.durable)),
        "shared_buffers=128MB".to_owned(),
        // A bounded log: a file a weekday, overwritten a week later.
        "logging_collector=on".to_owned(),
        "log_filename=postgresql-%a.log".to_owned(),
        "log_truncate_on_rotation=on".to_owned(),
        "log_rotation_age=1d".to_owned(),
        "log_rotation_size=0".to_owned(),
        "timezone=UTC".to_owned(),
        "log_timezone=UTC".to_owned(),
    ];
    // Tests count what a run asks of the database; Debian's server brings that along. In a database that asks for it alone: the
    // server remembers some thousand statements of all databases, and forgets the rarest when there are more.
    let of_tests = [
        "shared_preload_libraries=pg_stat_statements",
        "pg_stat_statements.track=none",
        "pg_stat_statements.save=off",
    ];
    let of_tests = of_tests.iter().filter(|_| !options.durable);
    let flags: Vec<String> = settings
        .into_iter()
        .chain(of_tests.map(|&setting| setting.to_owned()))
        .map(|setting| format!("-c {setting}"))
        .collect();
    pg_ctl(
        binaries,
        account,
        &["start", "-w", "-t", "60", "-D"],
        pgdata,
        &[
            "-l",
            &pgdata.join("start.log").to_string_lossy(),
            "-o",
            &flags.join(" "),
        ],
    )
    .await
}

pub(super) async fn pg_ctl(
    binaries: &Binaries,
    account: &Account,
    verb: &[&str],
    pgdata: &Path,
    rest: &[&str],
) -> Result<(), LocalError> {
    let mut command = account.command(&binaries.path("pg_ctl"));
    command.args(verb).arg(pgdata).args(rest);
    match run("pg_ctl", command).await {
        Err(LocalError::Program { program, output }) => {
            let log = fs::read_to_string(pgdata.join("start.log")).unwrap_or_default();
            let tail: Vec<&str> = log.lines().rev().take(5).collect();
            Err(LocalError::Program {
                program,
                output: format!(
                    "{output} {}",
                    tail.into_iter().rev().collect::<Vec<_>>().join(" | ")
                ),
            })
        }
        result => result,
    }
}

async fn run(program: &str, mut command: tokio::process::Command) -> Result<(), LocalError> {
    let failed = |output: String| LocalError::Program {
        program: program.to_owned(),
        output,
    };
    let output = command
        .output()
        .await
        .map_err(|error| failed(error.to_string()))?;
    if output.status.success() {
        return Ok(());
    }
    let said = [output.stderr, output.stdout]
        .map(|bytes| String::from_utf8_lossy(&bytes).trim().replace('\n', " | "));
    Err(failed(said.join(" ")))
}

/// The port of a server that runs in this directory. After kill -9 of the server or the machine a `postmaster.pid` is
/// left behind; its process id may by now be anybody's, which would keep PostgreSQL from starting: such a file goes.
pub(super) fn running(pgdata: &Path) -> Result<Option<u16>, LocalError> {
    let path = pgdata.join("postmaster.pid");
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(LocalError::File { path, source }),
    };
    // pid, data directory, start time, port, …
    let mut lines = text.lines();
    let pid: Option<u32> = lines.next().and_then(|line| line.trim().parse().ok());
    let port: Option<u16> = lines.nth(2).and_then(|line| line.trim().parse().ok());
    // A server's working directory is its data directory.
    let alive = pid.is_some_and(|pid| {
        fs::read_link(format!("/proc/{pid}/cwd"))
            .is_ok_and(|cwd| Some(cwd) == pgdata.canonicalize().ok())
    });
    match (alive, port) {
        (true, Some(port)) => Ok(Some(port)),
        // Alive, its file not yet whole: starting; pg_ctl waits for it.
        (true, None) => Ok(None),
        (false, _) => {
            fs::remove_file(&path).map_err(file_error(&path))?;
            Ok(None)
        }
    }
}
