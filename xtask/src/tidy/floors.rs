//! The building: a crate imports lower floors only, never sideways and never up.

use super::{Finding, tree::Tree};

/// The floor of each room of `crates/`.
const FLOORS: &[(&str, u8)] = &[
    ("kernel", 0),
    ("wire", 1),
    ("telemetry", 1),
    ("expression", 1),
    ("resilience", 2),
    ("identity", 2),
    ("net", 2),
    ("ledger", 2),
    ("discovery", 3),
    ("broker", 3),
    ("schemas", 3),
    ("redis-limits", 3),
    ("proxy", 4),
    ("api", 4),
    // An event is a message, and a stream can be subscribed to: it stands on the broker.
    ("events", 4),
    ("gateway", 5),
    ("mesh", 5),
    ("compose", 5),
    ("sagas", 5),
    ("webhooks", 5),
    ("push", 5),
    ("amqp", 5),
    ("mqtt", 5),
    ("broker-http", 5),
    ("kurrent", 5),
    ("outbox", 5),
    ("client", 5),
    ("weft", 6),
];

/// Off-stage: only tests import it, and it sees what stands up to this floor.
const TESTKIT: &str = "testkit";
const TESTKIT_SEES: u8 = 2;

/// A line of a `Cargo.toml` that depends on a room.
struct Arrow<'a> {
    to: &'a str,
    line: usize,
    for_tests: bool,
}

/// No sideways or upward import between the crates.
pub(super) fn arrows(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, manifest) in tree.ending("/Cargo.toml") {
        let from = path.strip_prefix("crates/").and_then(|path| path.strip_suffix("/Cargo.toml"));
        let ours = |arrow: &Arrow<'_>| floor(arrow.to).is_some() || arrow.to == TESTKIT;
        match from {
            Some(from) => {
                if from != TESTKIT && floor(from).is_none() {
                    let says = format!("`{from}` has no floor: give it one in xtask's table");
                    findings.push(Finding::new(path, 0, says));
                    continue;
                }
                // A room that turns features of its own on for its tests imports nothing by that.
                let others = depends(manifest).filter(|arrow| arrow.to != from);
                let wrong = others.filter(|arrow| !allowed(from, arrow));
                findings.extend(wrong.map(|arrow| {
                    let says = format!("`{from}` imports `{}`: only lower floors", arrow.to);
                    Finding::new(path, arrow.line, says)
                }));
            }
            None if path.starts_with("xtask/") => {
                findings.extend(
                    depends(manifest).filter(ours).map(|arrow| {
                        Finding::new(path, arrow.line, "xtask imports nothing of ours")
                    }),
                );
            }
            None => {}
        }
    }
    findings
}

fn floor(room: &str) -> Option<u8> {
    FLOORS.iter().find(|(name, _)| *name == room).map(|(_, floor)| *floor)
}

fn allowed(from: &str, arrow: &Arrow<'_>) -> bool {
    if arrow.to == TESTKIT {
        return arrow.for_tests;
    }
    let Some(to) = floor(arrow.to) else { return true };
    floor(from).map_or(to <= TESTKIT_SEES, |from| to < from)
}

/// The rooms that a manifest depends on, in any of its tables.
fn depends(manifest: &str) -> impl Iterator<Item = Arrow<'_>> {
    let mut table = "";
    manifest.lines().enumerate().filter_map(move |(at, line)| {
        let line = line.trim();
        if let Some(header) = line.strip_prefix('[') {
            table = header.trim_end_matches(']');
            // `[dependencies.weft-net]` is the other way to write the same.
            let (before, package) = table.rsplit_once('.')?;
            let to = before.ends_with("dependencies").then(|| room(package)).flatten()?;
            return Some(Arrow {
                to,
                line: at + 1,
                for_tests: before.ends_with("dev-dependencies"),
            });
        }
        if !table.ends_with("dependencies") {
            return None;
        }
        let package = line.split(['.', '=', ' ']).next()?;
        let for_tests = table.ends_with("dev-dependencies");
        Some(Arrow { to: room(package)?, line: at + 1, for_tests })
    })
}

/// The room of one of our packages.
fn room(package: &str) -> Option<&str> {
    package.strip_prefix("weft-").or_else(|| (package == "weft").then_some("weft"))
}

/// Every package says what it is for.
pub(super) fn manifests(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, manifest) in tree.ending("Cargo.toml") {
        if !manifest.lines().any(|line| line.trim() == "[package]") {
            continue;
        }
        let description = manifest.lines().find_map(|line| line.strip_prefix("description = "));
        if description.is_none_or(|text| text.trim_matches('"').split_whitespace().count() < 3) {
            findings.push(Finding::new(path, 0, "`description` does not say what it is for"));
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(path: &str, manifest: &str, expect: &[usize]) {
        let tree = Tree::of(&[(path, manifest)]);
        let lines: Vec<usize> = arrows(&tree).iter().map(|finding| finding.line).collect();
        assert_eq!(lines, expect, "{path}\n{manifest}");
    }

    #[test]
    fn arrows_go_down_only() {
        let net = "crates/net/Cargo.toml";
        check(net, "[dependencies]\nweft-kernel.workspace = true\ntokio = \"1\"", &[]);
        check(net, "[dependencies]\nweft-wire = { path = \"../wire\" }", &[]);
        check(net, "[dependencies]\nweft-identity.workspace = true", &[2]);
        check(net, "[dependencies]\nweft-proxy.workspace = true", &[2]);
        check(net, "[dependencies.weft-proxy]\nworkspace = true", &[1]);
        check(net, "[target.'cfg(unix)'.dependencies]\nweft-proxy.workspace = true", &[2]);
        check(net, "[dev-dependencies]\nweft-testkit.workspace = true", &[]);
        check(net, "[dependencies]\nweft-testkit.workspace = true", &[2]);
        check(net, "[dev-dependencies]\nweft-discovery.workspace = true", &[2]);
        check("crates/testkit/Cargo.toml", "[dependencies]\nweft-net.workspace = true", &[]);
        check("crates/testkit/Cargo.toml", "[dependencies]\nweft-proxy.workspace = true", &[2]);
        check("crates/weft/Cargo.toml", "[dependencies]\nweft-proxy.workspace = true", &[]);
        check("xtask/Cargo.toml", "[dependencies]\nweft-kernel.workspace = true", &[2]);
        check("bench/Cargo.toml", "[dependencies]\nweft-proxy.workspace = true", &[]);
    }

    #[test]
    fn a_room_without_a_floor_is_found() {
        check("crates/attic/Cargo.toml", "[package]", &[0]);
    }

    #[test]
    fn a_package_must_say_what_it_is_for() {
        let tree = Tree::of(&[
            ("a/Cargo.toml", "[package]\ndescription = \"x\""),
            ("b/Cargo.toml", "[package]\ndescription = \"Sockets and their ends\""),
            ("Cargo.toml", "[workspace]"),
        ]);
        let paths: Vec<String> = manifests(&tree).into_iter().map(|finding| finding.path).collect();
        assert_eq!(paths, ["a/Cargo.toml"]);
    }
}
