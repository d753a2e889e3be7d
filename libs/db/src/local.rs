//! A private PostgreSQL: found, made, started, recovered and stopped in a directory of ours. Loopback TCP with a random
//! password, never a socket (their paths may be too long) and never another port than one that was free.
//! Deliberately absent: installing PostgreSQL, upgrades between major versions, and production.

mod account;
mod control;

use std::{
    fs,
    io::Write,
    net::TcpListener,
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    time::Duration,
};

use sqlx::{AssertSqlSafe, Connection, PgConnection};

use account::Account;
use control::Binaries;

use crate::migrate::quoted;

/// Why there is no private PostgreSQL, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum LocalError {
    /// Not installed.
    #[error(
        "no PostgreSQL 15 or newer was found (looked in {looked}): install it, on Debian `apt-get install postgresql`"
    )]
    NotInstalled {
        /// Where it was looked for.
        looked: String,
    },
    /// Another process works in the directory.
    #[error(
        "{0} is in use by another mainstay: stop that one, or give this one another --data-dir"
    )]
    InUse(PathBuf),
    /// A file or directory.
    #[error("{path}: {source}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A program of PostgreSQL failed.
    #[error("{program} failed: {output}")]
    Program {
        /// Which.
        program: String,
        /// What it said, with the end of the server's log.
        output: String,
    },
    /// The server runs but does not answer.
    #[error("PostgreSQL in {0} does not answer: see the newest file in pgdata/log there")]
    NoAnswer(PathBuf),
    /// The server answered with an error.
    #[error("PostgreSQL: {0}")]
    Database(#[from] sqlx::Error),
}

fn file_error(path: &Path) -> impl FnOnce(std::io::Error) -> LocalError + '_ {
    move |source| LocalError::File {
        path: path.to_owned(),
        source,
    }
}

/// What is wanted.
#[derive(Debug, Clone)]
pub struct LocalOptions {
    /// The directory of the instance; the cluster lives in `postgres` below it, or in `/var/lib/mainstay/…` where the
    /// user `postgres` could not reach it.
    pub data_dir: PathBuf,
    /// Where the programs are, if not in a usual place.
    pub bin_dir: Option<PathBuf>,
    /// Connections for all roles together.
    pub max_connections: u32,
    /// False only for tests: a crash of the machine may then lose the cluster.
    pub durable: bool,
    /// Whether this process alone may use the directory (and holds it until dropped).
    pub exclusive: bool,
}

impl LocalOptions {
    /// As `mainstay up` wants it.
    pub fn new(data_dir: impl Into<PathBuf>) -> Self {
        Self {
            data_dir: data_dir.into(),
            bin_dir: None,
            max_connections: 200,
            durable: true,
            exclusive: true,
        }
    }
}

/// Where the programs are that would run it.
///
/// # Errors
/// [`LocalError::NotInstalled`], saying what to do.
pub fn installed() -> Result<PathBuf, LocalError> {
    Ok(Binaries::find(None)?.into_dir())
}

/// A private PostgreSQL that runs. Dropping it leaves the server running; see [`LocalPostgres::stop`].
#[derive(Debug)]
pub struct LocalPostgres {
    location: PathBuf,
    binaries: Binaries,
    account: Account,
    port: u16,
    secret: String,
    notices: Vec<String>,
    /// Held, not read: the lock on the directory.
    _lock: Option<fs::File>,
}

impl LocalPostgres {
    /// Makes the cluster if there is none, recovers it if it was killed, adopts it if it still runs.
    ///
    /// # Errors
    /// Each says what to do.
    pub async fn start(options: &LocalOptions) -> Result<Self, LocalError> {
        let binaries = Binaries::find(options.bin_dir.as_deref())?;
        let account = Account::choose().await?;
        let mut notices = Vec::new();
        let location = locate(&options.data_dir, &account, &mut notices).await?;
        let lock = options.exclusive.then(|| lock(&location)).transpose()?;
        // Those that share a cluster make and start it one after the other.
        let _turn = take_turn(&location).await?;
        let secret = secret(&location)?;
        let mut server = Self {
            location,
            binaries,
            account,
            port: 0,
            secret,
            notices,
            _lock: lock,
        };
        if !server.pgdata().join("PG_VERSION").exists() {
            server.init().await?;
        }
        server.port = server.run(options).await?;
        server.await_answer().await?;
        Ok(server)
    }

    fn pgdata(&self) -> PathBuf {
        self.location.join("pgdata")
    }

    /// Where the cluster really is.
    pub fn location(&self) -> &Path {
        &self.location
    }

    /// What a person should be told, such as a fall-back of the directory.
    pub fn notices(&self) -> &[String] {
        &self.notices
    }

    /// The port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The random secret of this instance, 64 hex digits: the superuser's password, and what role passwords derive from.
    pub fn secret(&self) -> &str {
        &self.secret
    }

    /// The superuser's URL. For bootstrap, backups and tests; services refuse it.
    pub fn admin_url(&self, database: &str) -> String {
        format!(
            "postgres://postgres:{}@127.0.0.1:{}/{database}?sslmode=disable",
            self.secret, self.port
        )
    }

    /// Makes a database if there is none of that name.
    ///
    /// # Errors
    /// When the server refuses.
    pub async fn create_database(&self, name: &str) -> Result<(), LocalError> {
        let mut connection = PgConnection::connect(&self.admin_url("postgres")).await?;
        let exists: bool =
            sqlx::query_scalar("select exists (select from pg_database where datname = $1)")
                .bind(name)
                .fetch_one(&mut connection)
                .await?;
        if !exists {
            sqlx::raw_sql(AssertSqlSafe(format!("create database {}", quoted(name))))
                .execute(&mut connection)
                .await?;
        }
        connection.close().await?;
        Ok(())
    }

    /// Stops the server: connections are cut, everything committed is on disk.
    ///
    /// # Errors
    /// When it does not stop within 30 s.
    pub async fn stop(&self) -> Result<(), LocalError> {
        let pgdata = self.pgdata();
        control::pg_ctl(
            &self.binaries,
            &self.account,
            &["stop", "-m", "fast", "-w", "-t", "30", "-D"],
            &pgdata,
            &[],
        )
        .await
    }

    /// The command line that stops this server, for a watchdog that is not of this process.
    pub fn stop_command(&self) -> Vec<String> {
        let mut command = self.account.prefix();
        command.push(self.binaries.path("pg_ctl"));
        command.extend(["stop", "-m", "fast", "-D"].map(str::to_owned));
        command.push(self.pgdata().to_string_lossy().into_owned());
        command
    }

    /// initdb into a directory beside, renamed when whole: a killed one is never taken for a cluster.
    async fn init(&self) -> Result<(), LocalError> {
        let unfinished = self.location.join("pgdata.unfinished");
        if unfinished.exists() {
            fs::remove_dir_all(&unfinished).map_err(file_error(&unfinished))?;
        }
        fs::create_dir(&unfinished).map_err(file_error(&unfinished))?;
        let private = fs::Permissions::from_mode(0o700);
        fs::set_permissions(&unfinished, private).map_err(file_error(&unfinished))?;
        self.account.give(&unfinished)?;
        let password = self.location.join("password.once");
        let _ = fs::remove_file(&password);
        write_private(&password, &self.secret)?;
        self.account.give(&password)?;
        let made = control::initdb(&self.binaries, &self.account, &unfinished, &password).await;
        let _ = fs::remove_file(&password);
        made?;
        let pgdata = self.pgdata();
        fs::rename(&unfinished, &pgdata).map_err(file_error(&pgdata))
    }

    /// Starts the server, or adopts one that survived its `mainstay`. Gives the port.
    async fn run(&self, options: &LocalOptions) -> Result<u16, LocalError> {
        let pgdata = self.pgdata();
        if let Some(port) = control::running(&pgdata)? {
            return Ok(port);
        }
        let port_file = self.location.join("port");
        let kept = fs::read_to_string(&port_file)
            .ok()
            .and_then(|text| text.trim().parse().ok());
        let mut last = None;
        // A free port can be taken between the look and the start: look again.
        for attempt in 0..5 {
            let port = match kept.filter(|_| attempt == 0) {
                Some(port) if is_free(port) => port,
                _ => free_port().map_err(file_error(&port_file))?,
            };
            match control::start(&self.binaries, &self.account, &pgdata, port, options).await {
                Ok(()) => {
                    fs::write(&port_file, port.to_string()).map_err(file_error(&port_file))?;
                    return Ok(port);
                }
                Err(error) => last = Some(error),
            }
            // Children of a killed server hold its shared memory for a moment longer.
            tokio::time::sleep(Duration::from_millis(200 << attempt)).await;
        }
        Err(last.unwrap_or_else(|| LocalError::NoAnswer(self.location.clone())))
    }

    /// An adopted server may still be recovering.
    async fn await_answer(&self) -> Result<(), LocalError> {
        let url = self.admin_url("postgres");
        for _ in 0..300 {
            match PgConnection::connect(&url).await {
                Ok(connection) => {
                    connection.close().await?;
                    return Ok(());
                }
                Err(error @ sqlx::Error::Database(_)) if !starting(&error) => {
                    return Err(error.into());
                }
                Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
            }
        }
        Err(LocalError::NoAnswer(self.location.clone()))
    }
}

fn starting(error: &sqlx::Error) -> bool {
    error
        .as_database_error()
        .and_then(|e| e.code())
        .is_some_and(|code| code == "57P03")
}

/// The directory of the cluster: below the data directory where the server's user can reach that, else a new one in a public
/// place. Which one is noted in the data directory and nowhere else, so that an empty directory never finds an old cluster.
async fn locate(
    data_dir: &Path,
    account: &Account,
    notices: &mut Vec<String>,
) -> Result<PathBuf, LocalError> {
    fs::create_dir_all(data_dir).map_err(file_error(data_dir))?;
    let data_dir = data_dir.canonicalize().map_err(file_error(data_dir))?;
    let here = data_dir.join("postgres");
    fs::create_dir_all(&here).map_err(file_error(&here))?;
    let elsewhere = match fs::read_to_string(here.join(ELSEWHERE)) {
        Ok(noted) => PathBuf::from(noted),
        Err(_) if account.can_reach(&here).await? => return Ok(here),
        Err(_) => note_elsewhere(&here)?,
    };
    fs::create_dir_all(&elsewhere).map_err(file_error(&elsewhere))?;
    notices.push(format!(
        "PostgreSQL's user cannot reach {}: its data is in {}",
        here.display(),
        elsewhere.display()
    ));
    Ok(elsewhere)
}

/// In the data directory: where the cluster is instead.
const ELSEWHERE: &str = "elsewhere";

/// Of several that start at once, the first one says where.
fn note_elsewhere(here: &Path) -> Result<PathBuf, LocalError> {
    let name = hex::encode(rand::random::<[u8; 8]>());
    let elsewhere = Path::new("/var/lib/mainstay").join(&name);
    let unfinished = here.join(format!("{ELSEWHERE}.{name}"));
    write_private(&unfinished, &elsewhere.to_string_lossy())?;
    let note = here.join(ELSEWHERE);
    let linked = fs::hard_link(&unfinished, &note);
    fs::remove_file(&unfinished).map_err(file_error(&unfinished))?;
    match linked {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
            Err(file_error(&note)(error))
        }
        _ => Ok(PathBuf::from(
            fs::read_to_string(&note).map_err(file_error(&note))?,
        )),
    }
}

async fn take_turn(location: &Path) -> Result<fs::File, LocalError> {
    let path = location.join("start.lock");
    let file = open_lock(&path)?;
    let locked = tokio::task::spawn_blocking(move || file.lock().map(|()| file)).await;
    match locked {
        Ok(result) => result.map_err(file_error(&path)),
        Err(panicked) => Err(LocalError::File {
            path,
            source: std::io::Error::other(panicked),
        }),
    }
}

fn open_lock(path: &Path) -> Result<fs::File, LocalError> {
    fs::OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(path)
        .map_err(file_error(path))
}

fn lock(location: &Path) -> Result<fs::File, LocalError> {
    let path = location.join("lock");
    let file = open_lock(&path)?;
    // The kernel frees it when the process ends, however it ends.
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(fs::TryLockError::WouldBlock) => Err(LocalError::InUse(location.to_owned())),
        Err(fs::TryLockError::Error(source)) => Err(LocalError::File { path, source }),
    }
}

fn secret(location: &Path) -> Result<String, LocalError> {
    let path = location.join("secret");
    match fs::read_to_string(&path) {
        Ok(text) if text.len() == 64 => return Ok(text),
        Ok(_) => {} // written halfway by a process that was killed before initdb
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(source) => return Err(LocalError::File { path, source }),
    }
    let text = hex::encode(rand::random::<[u8; 32]>());
    let unfinished = location.join("secret.unfinished");
    let _ = fs::remove_file(&unfinished);
    write_private(&unfinished, &text)?;
    fs::rename(&unfinished, &path).map_err(file_error(&path))?;
    Ok(text)
}

fn write_private(path: &Path, text: &str) -> Result<(), LocalError> {
    fs::OpenOptions::new()
        .create_new(true)
        .write(true)
        .mode(0o600)
        .open(path)
        .and_then(|mut file| {
            file.write_all(text.as_bytes())?;
            file.sync_all()
        })
        .map_err(file_error(path))
}

fn is_free(port: u16) -> bool {
    TcpListener::bind(("127.0.0.1", port)).is_ok()
}

fn free_port() -> std::io::Result<u16> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port())
}
