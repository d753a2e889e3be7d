//! As whom the server runs: PostgreSQL refuses root, so root hands over to the user `postgres`.
//! Deliberately absent: making that user; Debian's package does.

use std::{
    fs,
    os::unix::fs::{MetadataExt, chown},
    path::Path,
    process::Stdio,
};

use tokio::process::Command;

use super::{LocalError, file_error};

/// Who runs the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Account {
    /// We, an ordinary user.
    Ourselves,
    /// The user `postgres`, by `runuser`.
    Postgres { uid: u32, gid: u32 },
}

impl Account {
    pub(super) async fn choose() -> Result<Self, LocalError> {
        // Who owns our own entry in /proc is who we are.
        let ourselves = fs::metadata("/proc/self").map_err(file_error(Path::new("/proc/self")))?;
        if ourselves.uid() != 0 {
            return Ok(Account::Ourselves);
        }
        Ok(Account::Postgres {
            uid: id("-u").await?,
            gid: id("-g").await?,
        })
    }

    /// What stands before a command so that it runs as the server's user.
    pub(super) fn prefix(self) -> Vec<String> {
        match self {
            Account::Ourselves => Vec::new(),
            Account::Postgres { .. } => ["runuser", "-u", "postgres", "--"]
                .map(str::to_owned)
                .into(),
        }
    }

    /// A command that runs as the server's user, in a directory that exists for it.
    pub(super) fn command(self, program: &str) -> Command {
        let mut words = self.prefix();
        words.push(program.to_owned());
        let mut command = Command::new(&words[0]);
        command
            .args(&words[1..])
            .current_dir("/")
            .stdin(Stdio::null());
        // Settings of the caller's own clients must not reach this server.
        for name in [
            "PGDATA",
            "PGPORT",
            "PGHOST",
            "PGUSER",
            "PGDATABASE",
            "PGOPTIONS",
        ] {
            command.env_remove(name);
        }
        command
    }

    /// Makes a path the server's own.
    pub(super) fn give(self, path: &Path) -> Result<(), LocalError> {
        match self {
            Account::Ourselves => Ok(()),
            Account::Postgres { uid, gid } => {
                chown(path, Some(uid), Some(gid)).map_err(file_error(path))
            }
        }
    }

    /// Whether the server's user can pass through every directory down to this one.
    pub(super) async fn can_reach(self, path: &Path) -> Result<bool, LocalError> {
        if self == Account::Ourselves {
            return Ok(true);
        }
        let status = self
            .command("test")
            .arg("-x")
            .arg(path)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .await
            .map_err(file_error(path))?;
        Ok(status.success())
    }
}

async fn id(which: &str) -> Result<u32, LocalError> {
    let failed = |output: String| LocalError::Program {
        program: format!("id {which} postgres"),
        output,
    };
    let output = Command::new("id")
        .args([which, "postgres"])
        .output()
        .await
        .map_err(|error| failed(error.to_string()))?;
    String::from_utf8_lossy(&output.stdout)
        .trim()
        .parse()
        .map_err(|_| {
            failed("as root, PostgreSQL runs as the user postgres, and there is none".to_owned())
        })
}
