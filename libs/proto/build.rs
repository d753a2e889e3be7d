//! Compiles the protos in Rust (no `protoc`), and refuses an RPC that does not say who may call it.

use std::{env, error::Error, fs, path::PathBuf};

use prost::Message as _;

#[path = "src/build_check.rs"]
mod build_check;

#[expect(
    clippy::disallowed_methods,
    reason = "cargo tells build scripts everything through the environment"
)]
fn main() -> Result<(), Box<dyn Error>> {
    let root = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?).join("../../proto");
    println!("cargo:rerun-if-changed={}", root.display());
    let mut files = Vec::new();
    let mut folders = vec![root.join("mainstay")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else if path
                .extension()
                .is_some_and(|extension| extension == "proto")
            {
                files.push(path);
            }
        }
    }
    files.sort();

    let mut compiler = protox::Compiler::new([&root])?;
    compiler.include_imports(true).include_source_info(true);
    compiler.open_files(&files)?;

    // The bytes keep our extensions; prost_types' descriptors would drop them.
    let bytes = compiler.encode_file_descriptor_set();
    let problems = build_check::check(&bytes);
    if !problems.is_empty() {
        return Err(format!("the protos are incomplete:\n  {}", problems.join("\n  ")).into());
    }
    let out = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(out.join("descriptor_set.bin"), &bytes)?;

    let mut config = tonic_prost_build::Config::new();
    config.enable_type_names();
    // Ordered maps encode the same each time, and request hashes are of encodings.
    config.btree_map(["."]);
    // Bodies pass through several hands; shared, they are copied by none of them.
    config.bytes([".mainstay.integrations.v1.Webhook.body"]);
    tonic_prost_build::configure()
        .build_transport(false)
        .compile_fds_with_config(
            prost_types::FileDescriptorSet::decode(bytes.as_slice())?,
            config,
        )?;
    Ok(())
}
