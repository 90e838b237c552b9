//! Every configuration that the pages show is one that may run.
//!
//! A block with the info string `yaml` is a whole configuration; in one with `yaml each-line` every line
//! is one, for pages that show a setting in its several forms.

use std::{
    fs,
    path::{Path, PathBuf},
};

use weft::config::{Loader, report};
use weft_testkit::Authority;

/// A block of a page.
struct Block {
    place: String,
    each_line: bool,
    text: String,
}

/// The blocks of a page that hold configuration.
fn blocks(page: &str, text: &str) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut lines = text.lines().enumerate();
    while let Some((at, line)) = lines.next() {
        let Some(info) = line.strip_prefix("```yaml") else { continue };
        let body: Vec<&str> =
            lines.by_ref().map(|(_, line)| line).take_while(|line| *line != "```").collect();
        blocks.push(Block {
            place: format!("{page}:{}", at + 1),
            each_line: info == " each-line",
            text: body.join("\n"),
        });
    }
    blocks
}

/// The pages below a folder.
fn pages(folder: &Path, into: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            pages(&path, into);
        } else if path.extension().is_some_and(|end| end == "md") {
            into.push(path);
        }
    }
}

/// A folder with the files to which the pages refer.
fn files() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let tls = folder.path().join("tls");
    fs::create_dir(&tls).unwrap();
    fs::create_dir(folder.path().join("mounted")).unwrap();
    fs::write(folder.path().join("mounted/admin.token"), "a-token-that-is-mounted").unwrap();
    for name in ["clients-ca", "services-ca"] {
        Authority::new(name).write(&tls, name);
    }
    for name in ["shop", "api", "weft"] {
        Authority::new("here").issue(&["shop.example"]).write(&tls, name);
    }
    for name in [
        "admin.token",
        "ci.token",
        "scrape.token",
        "shop.password",
        "audit.password",
        "mobile.key",
        "mobile-next.key",
        "billing.password",
        "warehouse.token",
        "introspection.secret",
        "login.secret",
        "session.secret",
        "bank.secret",
    ] {
        let text = format!("{name}-that-is-long-enough-for-anybody");
        fs::write(folder.path().join(name), text).unwrap();
    }
    let key = "-----BEGIN PUBLIC KEY-----\n\
               MCowBQYDK2VwAyEAJrQLj5P/89iXES9+vFgrIy29clF9CC/oPPsw3c5D0bs=\n\
               -----END PUBLIC KEY-----\n";
    fs::write(folder.path().join("partner.pem"), key).unwrap();
    let database = "postgres://weft:secret@db.internal:5432/shop";
    fs::write(folder.path().join("shop.database"), database).unwrap();
    folder
}

#[test]
fn every_configuration_in_the_pages_may_run() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap();
    let mut found = vec![root.join("README.md")];
    pages(&root.join("docs"), &mut found);
    let folder = files();
    let file = folder.path().join("weft.yaml");
    let mut failed = Vec::new();
    let mut count = 0;
    for page in found {
        let name = page.strip_prefix(&root).unwrap().display().to_string();
        for block in blocks(&name, &fs::read_to_string(&page).unwrap()) {
            let texts: Vec<&str> =
                if block.each_line { block.text.lines().collect() } else { vec![&*block.text] };
            for text in texts {
                count += 1;
                if let Err(refused) = Loader::default().load_text(&file, text, &|_| None) {
                    let told = report::text(&refused.problems, &refused.sources, false);
                    failed.push(format!("{}:\n{told}", block.place));
                }
            }
        }
    }
    assert!(failed.is_empty(), "{}", failed.join("\n"));
    assert!(count >= 15, "the pages show {count} configurations: are they still looked for?");
}

#[test]
fn a_block_is_found_by_its_fence() {
    let page = "a\n```yaml\nx: 1\ny: 2\n```\n```sh\nz\n```\n```yaml each-line\nv: 1\n```\n";
    let found: Vec<_> = blocks("p", page)
        .into_iter()
        .map(|block| (block.place, block.each_line, block.text))
        .collect();
    let expected = [("p:2", false, "x: 1\ny: 2"), ("p:9", true, "v: 1")]
        .map(|(place, each, text)| (place.to_owned(), each, text.to_owned()));
    assert_eq!(found, expected);
}
