//! `mainstay up` as a process of its own: started, killed with -9, started again.

use std::{
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    process::Stdio,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail, ensure};
use mainstay_db::local::{LocalOptions, LocalPostgres};
use mainstay_testkit::PATIENCE;
use serde_json::Value;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::{Child, Command},
};

use crate::Rest;

/// How a platform is started.
#[derive(Debug, Clone, Default)]
pub struct Starting {
    /// Without the demo client.
    pub no_demo: bool,
    /// As an ordinary user, also when the tests run as root.
    pub ordinary_user: bool,
    /// More environment.
    pub env: Vec<(String, String)>,
}

/// A running platform, ended with the test.
pub struct Platform {
    data_dir: PathBuf,
    child: Child,
    dev: Value,
    starting: Starting,
    /// How long the last start took, until everything answered.
    pub started_in: Duration,
}

/// A platform that is killed leaves its PostgreSQL running, so that a restart finds it. After the test nobody will: dozens of them
/// would share the machine with the tests that follow.
impl Drop for Platform {
    fn drop(&mut self) {
        let _ = self.child.start_kill();
        if let Some(pid) = self.postmaster() {
            let _ = std::process::Command::new("kill")
                .args(["-QUIT", &pid.to_string()])
                .status();
        }
        let cluster = cluster(&self.data_dir);
        // What stands beside the binary stays for whoever looks into a failure; elsewhere nobody would find it.
        if !cluster.starts_with(&self.data_dir) {
            let _ = std::fs::remove_dir_all(cluster);
        }
    }
}

/// Where the cluster of a data directory is: elsewhere, if PostgreSQL's user could not reach it there.
fn cluster(data_dir: &Path) -> PathBuf {
    let here = data_dir.join("postgres");
    match std::fs::read_to_string(here.join("elsewhere")) {
        Ok(elsewhere) => PathBuf::from(elsewhere),
        Err(_) => here,
    }
}

/// The binary under test, built beside this one.
pub fn binary() -> anyhow::Result<PathBuf> {
    let here = std::env::current_exe().context("where this test runs from")?;
    let found = here
        .ancestors()
        .map(|folder| folder.join("mainstay"))
        .find(|candidate| candidate.is_file());
    found.with_context(|| {
        format!(
            "no `mainstay` beside {}: run `cargo build --workspace` first, as `make test` does",
            here.display()
        )
    })
}

impl Platform {
    /// Starts on a new, empty data directory named for the test.
    pub async fn start(name: &str) -> anyhow::Result<Self> {
        Self::start_with(name, Starting::default()).await
    }

    /// Starts on a new, empty data directory named for the test.
    pub async fn start_with(name: &str, starting: Starting) -> anyhow::Result<Self> {
        let data_dir = if starting.ordinary_user {
            ordinary_scratch(name)?
        } else {
            scratch(name)?
        };
        let (child, dev, started_in) = launch(&data_dir, &starting).await?;
        Ok(Self {
            data_dir,
            child,
            dev,
            starting,
            started_in,
        })
    }

    /// Kills the process at once, as a power cut would, and waits until it is gone.
    pub async fn kill(&mut self) -> anyhow::Result<()> {
        self.child.kill().await.context("kill -9")?;
        Ok(())
    }

    /// Starts again on the same data directory.
    pub async fn restart(&mut self) -> anyhow::Result<()> {
        let (child, dev, started_in) = launch(&self.data_dir, &self.starting).await?;
        (self.child, self.dev, self.started_in) = (child, dev, started_in);
        Ok(())
    }

    /// Asks it to stop (SIGTERM) and returns its exit status.
    pub async fn stop(&mut self) -> anyhow::Result<std::process::ExitStatus> {
        stop(&mut self.child).await
    }

    /// What `dev.json` says.
    pub fn dev(&self) -> &Value {
        &self.dev
    }

    /// A text of `dev.json`, by JSON pointer.
    pub fn dev_text(&self, pointer: &str) -> anyhow::Result<&str> {
        self.dev
            .pointer(pointer)
            .and_then(Value::as_str)
            .with_context(|| format!("dev.json has no {pointer}"))
    }

    /// The user that its process runs as.
    pub fn user(&self) -> anyhow::Result<u32> {
        let pid = self.pid().context("it has ended")?;
        Ok(std::fs::metadata(format!("/proc/{pid}"))?.uid())
    }

    /// Its data directory.
    pub fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    /// Its private PostgreSQL, to be stopped and started under its feet.
    pub async fn postgres(&self) -> anyhow::Result<LocalPostgres> {
        let options = LocalOptions {
            exclusive: false,
            ..LocalOptions::new(&self.data_dir)
        };
        Ok(LocalPostgres::start(&options).await?)
    }

    /// One number out of its database, as the superuser sees it.
    pub async fn count(&self, sql: &str) -> anyhow::Result<i64> {
        let mut connection = PgConnection::connect(self.dev_text("/database_url")?).await?;
        let counted = sqlx::query_scalar(AssertSqlSafe(sql.to_owned()))
            .fetch_one(&mut connection)
            .await
            .with_context(|| sql.to_owned())?;
        connection.close().await?;
        Ok(counted)
    }

    /// Pairs out of its database, as text; a missing value is empty.
    pub async fn pairs(&self, sql: &str) -> anyhow::Result<Vec<(String, String)>> {
        let mut connection = PgConnection::connect(self.dev_text("/database_url")?).await?;
        let sql = format!(
            "select coalesce(a::text, ''), coalesce(b::text, '') from ({sql}) as pairs (a, b)"
        );
        let pairs = sqlx::query_as(AssertSqlSafe(sql.clone()))
            .fetch_all(&mut connection)
            .await
            .context(sql)?;
        connection.close().await?;
        Ok(pairs)
    }

    /// Runs statements in its database, as the superuser.
    pub async fn execute(&self, sql: &str) -> anyhow::Result<()> {
        let mut connection = PgConnection::connect(self.dev_text("/database_url")?).await?;
        sqlx::raw_sql(AssertSqlSafe(sql.to_owned()))
            .execute(&mut connection)
            .await
            .with_context(|| sql.to_owned())?;
        connection.close().await?;
        Ok(())
    }

    /// The id of its process.
    pub fn pid(&self) -> Option<u32> {
        self.child.id()
    }

    /// The process id of its PostgreSQL, while that runs.
    pub fn postmaster(&self) -> Option<u32> {
        let noted = cluster(&self.data_dir).join("pgdata/postmaster.pid");
        let noted = std::fs::read_to_string(noted).ok()?;
        noted.lines().next()?.parse().ok()
    }

    /// A REST client with the owner's key.
    pub fn owner(&self) -> anyhow::Result<Rest> {
        Rest::new(
            self.dev_text("/gateway_url")?,
            self.dev_text("/owner/api_key")?,
        )
    }

    /// A REST client with another key.
    pub fn with_key(&self, key: &str) -> anyhow::Result<Rest> {
        Rest::new(self.dev_text("/gateway_url")?, key)
    }

    /// Reads from the simulators.
    pub async fn sandbox(&self, path: &str) -> anyhow::Result<Value> {
        let url = format!("{}{path}", self.dev_text("/sandbox_url")?);
        Ok(crate::rest::http()?
            .get(url)
            .send()
            .await?
            .error_for_status()?
            .json()
            .await?)
    }

    /// Posts to the simulators' control.
    pub async fn sandbox_post(&self, path: &str, body: &Value) -> anyhow::Result<Value> {
        let url = format!("{}{path}", self.dev_text("/sandbox_url")?);
        Ok(crate::rest::http()?
            .post(url)
            .json(body)
            .send()
            .await?
            .error_for_status()?
            .json()
            .await?)
    }

    /// One more of a role on the same database, beside the one that runs with everything else.
    pub fn replica(&self, role: &str) -> anyhow::Result<Child> {
        self.serve(role, "127.0.0.1:0")
    }

    /// A role in a process of its own, with the settings that `up` made, behind an address.
    pub fn serve(&self, role: &str, address: &str) -> anyhow::Result<Child> {
        let address = address.trim_start_matches("http://");
        Command::new(binary()?)
            .args(["serve", role, "--listen", address, "--config"])
            .arg(self.data_dir.join("settings.toml"))
            .env_clear()
            .envs(inherited())
            .envs(self.starting.env.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("one more {role}"))
    }

    /// Runs a command of the binary against this platform; its whole output.
    pub async fn command(&self, arguments: &[&str]) -> anyhow::Result<std::process::Output> {
        let output = Command::new(binary()?)
            .env_clear()
            .envs(inherited())
            .args(arguments)
            .arg("--data-dir")
            .arg(&self.data_dir)
            .output()
            .await?;
        Ok(output)
    }
}

/// The simulators in a process of their own, which outlives whatever is killed beside it, and where they answer.
pub async fn simulators(name: &str) -> anyhow::Result<(Child, String)> {
    let folder = scratch(&format!("{name}-sandbox"))?;
    let port = std::net::TcpListener::bind("127.0.0.1:0")?
        .local_addr()?
        .port();
    let address = format!("127.0.0.1:{port}");
    let child = Command::new(binary()?)
        .args(["serve", "sandbox", "--listen", &address])
        .env("MAINSTAY_ENVIRONMENT", "development")
        .current_dir(folder)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .context("the simulators")?;
    let url = format!("http://{address}");
    let http = crate::rest::http()?;
    crate::world::until("the simulators answer", async || {
        let asked = http.get(format!("{url}/_/clock")).send().await;
        Ok(asked.is_ok().then_some(()))
    })
    .await?;
    Ok((child, url))
}

/// The environment that a process needs to find programs.
fn inherited() -> impl Iterator<Item = (std::ffi::OsString, std::ffi::OsString)> {
    std::env::vars_os().filter(|(name, _)| {
        ["PATH", "HOME", "LANG", "TMPDIR"]
            .iter()
            .any(|kept| name == kept)
    })
}

/// Asks a process to stop (SIGTERM) and returns its exit status.
pub async fn stop(child: &mut Child) -> anyhow::Result<std::process::ExitStatus> {
    let pid = child.id().context("it has ended already")?;
    let asked = Command::new("kill")
        .args(["-TERM", &pid.to_string()])
        .status()
        .await?;
    ensure!(asked.success(), "the process could not be asked to stop");
    let status = tokio::time::timeout(PATIENCE, child.wait()).await;
    Ok(status.context("it did not stop in time")??)
}

/// An empty folder for one test, its former content removed.
pub fn scratch(name: &str) -> anyhow::Result<PathBuf> {
    let binary = binary()?;
    let profile = binary.parent().context("the binary's folder")?;
    let folder = profile.join("journeys").join(name);
    if folder.exists() {
        std::fs::remove_dir_all(&folder)
            .with_context(|| format!("removing {}", folder.display()))?;
    }
    std::fs::create_dir_all(&folder)?;
    Ok(folder)
}

/// Somebody with no rights of their own; Debian calls them nobody.
const ORDINARY: u32 = 65_534;

fn is_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0)
}

/// A folder that an ordinary user owns and can reach, which below root's home none can.
fn ordinary_scratch(name: &str) -> anyhow::Result<PathBuf> {
    let folder =
        std::env::temp_dir().join(format!("mainstay-journeys-{name}-{}", std::process::id()));
    std::fs::create_dir_all(&folder)?;
    // The binary too may stand where only root can reach it.
    std::fs::copy(binary()?, folder.join("mainstay"))?;
    let data_dir = folder.join("data");
    std::fs::create_dir_all(&data_dir)?;
    if is_root() {
        std::os::unix::fs::chown(&data_dir, Some(ORDINARY), Some(ORDINARY))?;
    }
    Ok(data_dir)
}

async fn launch(data_dir: &Path, starting: &Starting) -> anyhow::Result<(Child, Value, Duration)> {
    let began = Instant::now();
    let log_path = data_dir.with_extension("stderr.log");
    let log = std::fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(&log_path)?;
    let program = if starting.ordinary_user {
        data_dir.with_file_name("mainstay")
    } else {
        binary()?
    };
    let mut command = Command::new(program);
    if starting.ordinary_user && is_root() {
        command.uid(ORDINARY).gid(ORDINARY);
    }
    command
        .args(["up", "--listen", "127.0.0.1:0", "--data-dir"])
        .arg(data_dir)
        // What the person's shell has set is no part of the test.
        .env_clear()
        .envs(inherited())
        // What a test does to the platform alerts nobody in the middle of it, unless it is about that.
        .env("MAINSTAY_ESCALATION_HEALTH_SECONDS", "3600")
        .envs(starting.env.iter().map(|(name, value)| (name, value)))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(log)
        .kill_on_drop(true);
    if starting.no_demo {
        command.arg("--no-demo");
    }
    let mut child = command.spawn().context("starting `mainstay up`")?;
    let stdout = child.stdout.take().context("its stdout")?;
    let mut lines = BufReader::new(stdout).lines();
    let ready = async {
        let mut said = Vec::new();
        while let Some(line) = lines.next_line().await? {
            if line.contains("Mainstay is up") {
                return Ok(());
            }
            said.push(line);
        }
        let log = std::fs::read_to_string(&log_path).unwrap_or_default();
        bail!(
            "`mainstay up` ended before it was ready:\n{}\n{log}",
            said.join("\n")
        )
    };
    tokio::time::timeout(PATIENCE, ready)
        .await
        .context("`mainstay up` was not ready in time")??;
    let started_in = began.elapsed();
    // Its later lines are read on, so that a full pipe never stops it.
    tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
    let dev = std::fs::read(data_dir.join("dev.json")).context("dev.json")?;
    Ok((child, serde_json::from_slice(&dev)?, started_in))
}
