//! Owns the file that makes the simulators durable: one JSON line per committed transaction, handed to the operating
//! system before the answer leaves, so that a killed process loses nothing it answered.
//!
//! Deliberately absent: `fsync`. The promise is to survive kill -9 of the process, not the loss of the machine; a
//! simulator that waited for the disk would be slower than the provider it stands for.

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use crate::SandboxError;
use crate::store::{Record, World};

const FILE: &str = "sandbox.jsonl";
/// Below this a rewrite saves nothing worth the start-up time.
const COMPACT_FROM_BYTES: u64 = 4 * 1024 * 1024;

/// The open journal. The file stays locked for as long as this lives: two simulators on one directory would
/// interleave their histories.
#[derive(Debug)]
pub(crate) struct Journal {
    file: File,
    length: u64,
    // Locked for as long as the journal is open; `file` itself is replaced by compaction.
    _lock: File,
}

impl Journal {
    /// Opens (or creates) the journal in `directory` and replays it into a world.
    pub(crate) fn open(directory: &Path) -> Result<(Journal, World), SandboxError> {
        let failed = |what: &'static str, path: &Path| {
            let path = path.to_owned();
            move |source| SandboxError::Journal { what, path, source }
        };
        std::fs::create_dir_all(directory).map_err(failed("create the directory of", directory))?;
        let lock_path = directory.join("sandbox.lock");
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&lock_path)
            .map_err(failed("open the lock of", &lock_path))?;
        lock.try_lock().map_err(|_| SandboxError::InUse {
            path: directory.to_owned(),
        })?;

        let path = directory.join(FILE);
        let mut file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(&path)
            .map_err(failed("open", &path))?;
        let (world, length) = replay(&mut file, &path)?;
        // Whatever follows the last whole line was never answered for: cut it off before anything is appended.
        file.set_len(length).map_err(failed("truncate", &path))?;
        file.seek(SeekFrom::Start(length))
            .map_err(failed("seek in", &path))?;
        let mut journal = Journal {
            file,
            length,
            _lock: lock,
        };
        if length >= COMPACT_FROM_BYTES {
            journal
                .compact(&path, &world)
                .map_err(failed("compact", &path))?;
        }
        Ok((journal, world))
    }

    /// Appends one transaction. On failure nothing of it stays in the file.
    pub(crate) fn append(&mut self, record: &Record) -> std::io::Result<()> {
        let mut line = serde_json::to_vec(record)?;
        line.push(b'\n');
        if let Err(error) = self.file.write_all(&line) {
            // Half a line in the middle of the file would hide everything after it at the next start.
            let _ = self.file.set_len(self.length);
            let _ = self.file.seek(SeekFrom::Start(self.length));
            return Err(error);
        }
        self.length += line.len() as u64;
        Ok(())
    }

    /// Replaces history by the state it led to, if that is clearly smaller.
    fn compact(&mut self, path: &Path, world: &World) -> std::io::Result<()> {
        let temporary: PathBuf = path.with_extension("jsonl.new");
        let mut file = OpenOptions::new()
            .create(true)
            .truncate(true)
            .read(true)
            .write(true)
            .open(&temporary)?;
        let mut length = 0;
        {
            let mut writer = std::io::BufWriter::new(&mut file);
            for record in world.snapshot() {
                let mut line = serde_json::to_vec(&record)?;
                line.push(b'\n');
                length += line.len() as u64;
                writer.write_all(&line)?;
            }
            writer.flush()?;
        }
        if length > self.length / 4 * 3 {
            return std::fs::remove_file(&temporary);
        }
        file.sync_all()?;
        std::fs::rename(&temporary, path)?;
        self.file = file;
        self.length = length;
        Ok(())
    }
}

/// Reads whole lines into a world and says how many bytes of the file they are. Only the last line may be torn: a
/// broken one with others behind it is damage, and silence about damage would be worse than not starting.
fn replay(file: &mut File, path: &Path) -> Result<(World, u64), SandboxError> {
    let mut world = World::default();
    let mut reader = BufReader::with_capacity(1 << 20, file);
    let mut line = Vec::new();
    let mut good = 0_u64;
    let mut number = 0_u64;
    loop {
        line.clear();
        let read = reader
            .read_until(b'\n', &mut line)
            .map_err(|source| SandboxError::Journal {
                what: "read",
                path: path.to_owned(),
                source,
            })?;
        if read == 0 || line.last() != Some(&b'\n') {
            return Ok((world, good));
        }
        number += 1;
        match serde_json::from_slice::<Record>(&line) {
            Ok(record) => world.apply(record),
            Err(source) => {
                return Err(SandboxError::Damaged {
                    path: path.to_owned(),
                    line: number,
                    source,
                });
            }
        }
        good += read as u64;
    }
}
