//! Writes the code that is generated from `.proto` files and committed.
//!
//! It stands apart from xtask because the protobuf compiler is some eighty packages, and it runs
//! without `protoc`, so that a checkout needs nothing but cargo. `xtask-gen` writes; `xtask-gen
//! --check` compares, writes nothing, and fails on the first file that differs.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};
use prost::Message;

/// One `.proto` file and the folder that its Rust code and descriptors are committed in.
struct Source {
    folder: &'static str,
    file: &'static str,
    out: &'static str,
    /// Attributes by protobuf path, as prost takes them.
    attributes: &'static [(&'static str, &'static str)],
}

const SOURCES: &[Source] = &[
    Source {
        folder: "examples/shop/proto",
        file: "shop.proto",
        out: "examples/shop/src/generated",
        // The shop speaks the same types over REST.
        attributes: &[(".", "#[derive(serde::Serialize, serde::Deserialize)]\n#[serde(default)]")],
    },
    Source {
        folder: "crates/gateway/proto",
        file: "ext_authz.proto",
        out: "crates/gateway/src/external/check/generated",
        attributes: &[],
    },
    Source {
        folder: "crates/kurrent/proto",
        file: "kurrent.proto",
        out: "crates/kurrent/src/messages/generated",
        attributes: &[],
    },
];

fn main() -> Result<()> {
    let check = match std::env::args().nth(1).as_deref() {
        None => false,
        Some("--check") => true,
        Some(other) => bail!("unknown argument `{other}`: there is only --check"),
    };
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let scratch = std::env::temp_dir().join(format!("xtask-gen-{}", std::process::id()));
    let outcome = SOURCES.iter().try_for_each(|source| generate(&root, &scratch, source, check));
    let _ = fs::remove_dir_all(&scratch);
    outcome
}

/// Generates in a scratch folder, then compares with, or copies over, what is committed.
fn generate(root: &Path, scratch: &Path, source: &Source, check: bool) -> Result<()> {
    let folder = root.join(source.folder);
    let descriptors = protox::compile([folder.join(source.file)], [&folder])
        .with_context(|| format!("compile {}/{}", source.folder, source.file))?;
    let fresh = scratch.join(source.out);
    fs::create_dir_all(&fresh)?;
    let stem = Path::new(source.file).with_extension("bin");
    fs::write(fresh.join(stem), descriptors.encode_to_vec())?;
    let mut builder = tonic_prost_build::configure().build_client(false).out_dir(&fresh);
    for (path, attribute) in source.attributes {
        builder = builder.message_attribute(path, attribute);
    }
    builder.compile_fds(descriptors).context("generate Rust")?;

    let committed = root.join(source.out);
    let made = listing(&fresh)?;
    for name in &made {
        let new = fs::read(fresh.join(name))?;
        let path = committed.join(name);
        if fs::read(&path).is_ok_and(|old| old == new) {
            continue;
        }
        if check {
            bail!("{}/{} is not up to date: run `cargo xtask gen`", source.out, name.display());
        }
        fs::create_dir_all(&committed)?;
        fs::write(&path, new)?;
    }
    for name in listing(&committed)? {
        if made.contains(&name) {
            continue;
        }
        if check {
            bail!("{}/{} has no source: run `cargo xtask gen`", source.out, name.display());
        }
        fs::remove_file(committed.join(name))?;
    }
    Ok(())
}

/// The names of the files in a folder, sorted; none if there is no folder.
fn listing(folder: &Path) -> Result<Vec<PathBuf>> {
    let Ok(entries) = fs::read_dir(folder) else { return Ok(Vec::new()) };
    let mut names = entries
        .map(|entry| Ok(PathBuf::from(entry?.file_name())))
        .collect::<Result<Vec<_>, std::io::Error>>()?;
    names.sort();
    Ok(names)
}
