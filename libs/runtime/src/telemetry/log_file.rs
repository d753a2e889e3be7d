//! The log as a file beside the data, for an instance that runs on a person's machine.
//!
//! Deliberately absent: rotation while it runs. What is older than the last start and large is put aside at the next.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Mutex;

use super::TelemetryError;

/// From this size on the file is put aside at the next start; one older file is kept.
const LARGE_BYTES: u64 = 64 * 1024 * 1024;

/// Opens the file for appending. A line is one write, so lines of several threads do not mix.
pub(super) fn open(path: &Path) -> Result<Mutex<File>, TelemetryError> {
    let append = || {
        if fs::metadata(path).is_ok_and(|found| found.len() > LARGE_BYTES) {
            let mut older = OsString::from(path);
            older.push(".1");
            fs::rename(path, older)?;
        }
        OpenOptions::new()
            .create(true)
            .append(true)
            .mode(0o600)
            .open(path)
    };
    append()
        .map(Mutex::new)
        .map_err(|source| TelemetryError::LogFile {
            path: path.to_owned(),
            source,
        })
}
