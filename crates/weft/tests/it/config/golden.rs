//! Every file in `broken/` is refused, or warned about, with exactly the text beside it.
//!
//! `WEFT_BLESS=1` writes the text anew; what changes is then seen in the diff.

use std::{fs, path::PathBuf};

use weft::config::{Loader, report};

fn folder(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/it/config").join(name)
}

#[test]
fn each_broken_file_is_told_as_expected() {
    let mut seen = 0;
    let mut wrong = Vec::new();
    for entry in fs::read_dir(folder("broken")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "yaml") {
            continue;
        }
        seen += 1;
        let text = fs::read_to_string(&path).unwrap();
        let name = PathBuf::from(path.file_name().unwrap());
        let told = match Loader::default().load_text(&name, &text, &super::variables) {
            Ok(loaded) => report::text(&loaded.warnings, &loaded.sources, false),
            Err(refused) => report::text(&refused.problems, &refused.sources, false),
        };
        let expected = path.with_extension("txt");
        if std::env::var_os("WEFT_BLESS").is_some() {
            fs::write(&expected, &told).unwrap();
        }
        if fs::read_to_string(&expected).unwrap_or_default() != told || told.is_empty() {
            wrong.push(format!("{}:\n{told}", name.display()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(seen >= 12, "only {seen} files");
}

#[test]
fn each_good_file_is_accepted_without_a_warning() {
    for entry in fs::read_dir(folder("good")).unwrap() {
        let path = entry.unwrap().path();
        let text = fs::read_to_string(&path).unwrap();
        let loaded = super::good(&text);
        let told = report::text(&loaded.warnings, &loaded.sources, false);
        assert!(told.is_empty(), "{}: {told}", path.display());
    }
}

#[test]
fn programs_are_told_the_same() {
    let refused = super::refused("listeners:\n  web: {adress: 1}\n");
    let told = report::json(&refused.problems, &refused.sources);
    let key = &told[1];
    assert_eq!(key["message"], "listener has no key `adress`");
    assert_eq!((&key["line"], &key["column"]), (&2.into(), &9.into()));
    assert_eq!((&key["end_line"], &key["end_column"]), (&2.into(), &15.into()));
    assert_eq!((&key["file"], &key["severity"]), (&"weft.yaml".into(), &"error".into()));
    assert_eq!(key["help"], "did you mean `address`?");
}
