//! The binaries that the tour and the suites run, as they are built for development: their assertions
//! judge along, and from a clean checkout nothing else is there as soon.

use std::path::PathBuf;

use anyhow::Result;

use crate::shell;

/// Cargo's target folder.
pub(crate) fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| crate::root().join("target"), PathBuf::from)
}

/// Builds Weft and the shop, and nothing beside them; gives their folder.
pub(crate) fn alone() -> Result<PathBuf> {
    shell::cargo(["build", "--locked", "--package", "weft", "--package", "weft-shop"]).run()?;
    Ok(target().join("debug"))
}

/// Builds Weft alone, optimised for a release or not; gives its binary.
pub(crate) fn weft(release: bool) -> Result<PathBuf> {
    let flag = release.then_some("--release");
    shell::cargo(["build", "--locked", "--package", "weft"].into_iter().chain(flag)).run()?;
    Ok(target().join(if release { "release" } else { "debug" }).join("weft"))
}

/// Builds every binary along with the tests, whose features are those of the whole workspace: where the
/// tests have run, nothing is compiled again. Gives their folder.
pub(crate) fn with_tests() -> Result<PathBuf> {
    shell::cargo(["build", "--locked", "--workspace", "--bins", "--tests"]).run()?;
    Ok(target().join("debug"))
}
