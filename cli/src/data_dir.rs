//! The data directory of one instance: where its files are, and the lock that keeps a second instance out.
//! Deliberately absent: what the files hold. `dev_file` and `secrets` know that.

use std::fs::{self, File, OpenOptions, Permissions, TryLockError};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::Args;

use crate::failure::{Advise, refuse};

/// The option of every command that works on an instance.
#[derive(Args, Clone, Debug)]
pub struct DataDirArg {
    /// Where the instance keeps everything: database, secrets, logs, traces
    #[arg(long, value_name = "DIR", default_value = ".mainstay")]
    pub data_dir: PathBuf,
}

impl DataDirArg {
    /// How this program is called again for the same instance: its path from here, the command, and the option where it
    /// is not the default.
    pub fn command(&self, command: &str) -> String {
        let here = std::env::current_dir().unwrap_or_default();
        let program = std::env::current_exe().unwrap_or_else(|_| PathBuf::from("mainstay"));
        let program = match program.strip_prefix(&here) {
            // A name alone would be looked for in the PATH.
            Ok(beside) if beside.components().count() == 1 => format!("./{}", beside.display()),
            Ok(below) => below.display().to_string(),
            Err(_) => program.display().to_string(),
        };
        match self.data_dir.to_str() {
            Some(".mainstay") => format!("{program} {command}"),
            _ => format!("{program} {command} --data-dir {}", self.data_dir.display()),
        }
    }
}

/// An instance's directory.
#[derive(Clone, Debug)]
pub struct DataDir {
    root: PathBuf,
}

/// Held while the instance runs. The operating system lets go of it when the process ends, however it ends.
#[derive(Debug)]
pub struct InstanceLock {
    _file: File,
}

impl DataDir {
    /// The directory as an absolute path; it need not exist.
    ///
    /// # Errors
    /// When there is no current directory to make it absolute.
    pub fn at(arg: &DataDirArg) -> anyhow::Result<Self> {
        let root = std::path::absolute(&arg.data_dir)
            .with_context(|| format!("{} is no usable path", arg.data_dir.display()))?;
        Ok(DataDir { root })
    }

    /// Makes it, if need be. Others may pass through (PostgreSQL runs as its own user when we are root) but not look
    /// around; each file in it is for the owner only.
    ///
    /// # Errors
    /// When it cannot be made or written to.
    pub fn create(&self) -> anyhow::Result<()> {
        let next = "choose a directory you may write to with --data-dir";
        let made = || -> std::io::Result<()> {
            if !self.root.is_dir() {
                fs::create_dir_all(&self.root)?;
                fs::set_permissions(&self.root, Permissions::from_mode(0o711))?;
            }
            Ok(())
        };
        made().advise(
            format!("the data directory {} cannot be made", self.root.display()),
            next,
        )
    }

    /// Takes the instance's lock.
    ///
    /// # Errors
    /// When another process holds it, naming that process.
    pub fn lock(&self) -> anyhow::Result<InstanceLock> {
        let path = self.root.join("up.lock");
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .advise(
                format!("{} cannot be written", path.display()),
                "choose a directory you may write to with --data-dir",
            )?;
        match file.try_lock() {
            Ok(()) => {
                file.set_len(0)?;
                file.rewind()?;
                write!(file, "{}", std::process::id())?;
                Ok(InstanceLock { _file: file })
            }
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                file.read_to_string(&mut holder)?;
                Err(refuse(
                    format!(
                        "{} is in use by another `mainstay up` (process {holder})",
                        self.root.display()
                    ),
                    format!(
                        "stop it (Ctrl-C, or kill {holder}), or run this one beside it with another --data-dir and --listen"
                    ),
                ))
            }
            Err(TryLockError::Error(error)) => {
                Err(error).context(format!("{} cannot be locked", path.display()))
            }
        }
    }

    /// The process that holds the lock now, if any.
    pub fn running_process(&self) -> Option<String> {
        let path = self.root.join("up.lock");
        let file = File::open(&path).ok()?;
        match file.try_lock_shared() {
            Err(TryLockError::WouldBlock) => fs::read_to_string(&path).ok(),
            Ok(()) | Err(TryLockError::Error(_)) => None,
        }
    }

    /// The directory itself.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The simulators' journal.
    pub fn sandbox(&self) -> PathBuf {
        self.root.join("sandbox")
    }

    /// Every span, a line each.
    pub fn traces(&self) -> PathBuf {
        self.root.join("traces.jsonl")
    }

    /// The log.
    pub fn log(&self) -> PathBuf {
        self.root.join("mainstay.log")
    }

    /// The ports of the last start.
    pub fn ports(&self) -> PathBuf {
        self.root.join("ports.json")
    }

    /// The settings that `up` made up, as a configuration file.
    pub fn settings(&self) -> PathBuf {
        self.root.join("settings.toml")
    }

    /// What clients need to know.
    pub fn dev_file(&self) -> PathBuf {
        self.root.join("dev.json")
    }

    /// What nobody else should know.
    pub fn secrets(&self) -> PathBuf {
        self.root.join("secrets.json")
    }
}

/// Replaces a file as a whole, readable by its owner only: whoever reads it sees the old text or the new one.
///
/// # Errors
/// When it cannot be written.
pub fn write_private(path: &Path, text: &str) -> anyhow::Result<()> {
    let write = || -> std::io::Result<()> {
        let beside = path.with_extension("new");
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&beside)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&beside, path)
    };
    write().with_context(|| format!("{} cannot be written", path.display()))
}
