//! Embeds the migrations, so that the binary carries the schemas it was built for.
//! Deliberately absent: judging them. `mainstay_db` does, and the tests.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::{env, fs, io};

#[expect(
    clippy::disallowed_methods,
    reason = "cargo tells a build script by its environment where to write"
)]
fn main() -> io::Result<()> {
    // Asked for when it runs: a build cache shared by two checkouts must not embed the other one's migrations.
    let here = env::var_os("CARGO_MANIFEST_DIR")
        .map(PathBuf::from)
        .ok_or_else(|| io::Error::other("cargo sets CARGO_MANIFEST_DIR"))?;
    let folder = here.join("../migrations");
    println!("cargo::rerun-if-changed={}", folder.display());
    let mut list = String::from("&[\n");
    for set in sorted(&folder)?.into_iter().filter(|path| path.is_dir()) {
        let name = file_name(&set);
        for file in sorted(&set)? {
            println!("cargo::rerun-if-changed={}", file.display());
            if file.extension().is_some_and(|extension| extension == "sql") {
                let path = format!("{name}/{}", file_name(&file));
                let _ = writeln!(
                    list,
                    "({path:?}, include_str!({:?})),",
                    file.canonicalize()?
                );
            }
        }
    }
    list.push(']');
    let out = env::var_os("OUT_DIR").ok_or_else(|| io::Error::other("cargo sets OUT_DIR"))?;
    fs::write(Path::new(&out).join("migrations.rs"), list)
}

fn sorted(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut paths = fs::read_dir(folder)?
        .map(|entry| Ok(entry?.path()))
        .collect::<io::Result<Vec<_>>>()?;
    paths.sort();
    Ok(paths)
}

fn file_name(path: &Path) -> String {
    path.file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned()
}
