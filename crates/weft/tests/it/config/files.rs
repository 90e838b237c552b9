//! Files and folders, and what can be wrong with them as such.

use std::{fs, path::Path};

use weft::config::{Loaded, Loader, Refused};

fn load(path: &Path) -> Result<Loaded, Box<Refused>> {
    Loader::default().load(path, &super::variables)
}

fn message(path: &Path) -> String {
    load(path).expect_err("it should have been refused").to_string()
}

#[test]
fn a_folder_is_merged() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
    write(
        "a.yaml",
        "listeners: {web: {address: 127.0.0.1:80}}\nservices: {a: {endpoints: 127.0.0.1:1}}",
    );
    write(
        "b.yml",
        "services: {b: {endpoints: 127.0.0.1:2}}\nroutes: [{name: b, match: /b, to: b}]",
    );
    write("c.json", r#"{"routes": [{"name": "a", "match": "/a", "to": "a"}]}"#);
    write(".hidden.yaml", "nonsense: [");
    write("notes.txt", "nonsense: [");
    fs::create_dir(folder.path().join("..data")).unwrap();
    let loaded = load(folder.path()).unwrap_or_else(|refused| panic!("{refused}"));
    assert_eq!(loaded.plan.proxy.services.len(), 2);
    assert_eq!(loaded.plan.proxy.routes.len(), 2);
    assert_eq!(loaded.sources.files().len(), 3);

    write("d.yaml", "services: {a: {endpoints: 127.0.0.1:3}}\nadmin: off");
    write("e.yaml", "routes: [{name: a, match: /e, to: a}]\nadmin: off");
    let refused = load(folder.path()).expect_err("names stand twice");
    let told: Vec<_> = refused.problems.iter().map(|problem| problem.message.as_str()).collect();
    assert_eq!(
        told,
        [
            "`a` stands twice under `services`",
            "two routes are named `a`",
            "`admin` stands in two files"
        ]
    );
    let first = refused.problems[0].also[0].0;
    assert!(refused.sources.position(first).unwrap().path.ends_with("a.yaml"));
}

#[test]
fn what_is_no_configuration_is_refused_in_words() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("weft.yaml");
    assert!(message(&path).ends_with("there is no such file"), "{}", message(&path));
    assert!(message(folder.path()).ends_with("no *.yaml file is in this folder"));
    for (bytes, expect) in [
        (&b"\x7fELF\0\0"[..], "this is a binary file: byte 4 is NUL; a configuration is YAML text"),
        (&b"a: b\nc: \xff"[..], "line 2 is not UTF-8 text (byte 8); a configuration is YAML text"),
        (&b""[..], "nothing stands in this file"),
    ] {
        fs::write(&path, bytes).unwrap();
        assert!(message(&path).ends_with(expect), "{}", message(&path));
    }
    let huge = fs::File::create(&path).unwrap();
    huge.set_len(9 * 1024 * 1024).unwrap();
    assert!(message(&path).ends_with("this file is larger than 8MiB"), "{}", message(&path));
    assert!(message(Path::new("/dev/zero")).ends_with("this is no regular file"));
}

#[test]
fn bombs_do_not_go_off() {
    let mut bomb = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for at in 1..9 {
        let below = at - 1;
        let refs = vec![format!("*a{below}"); 10].join(", ");
        bomb.push_str(&format!("a{at}: &a{at} [{refs}]\n"));
    }
    let told = super::refused(&bomb).to_string();
    assert!(told.contains("aliases unfold to more than"), "{told}");

    let deep = format!("services: {}", "[".repeat(100_000));
    let told = super::refused(&deep).to_string();
    assert!(told.contains("deep") || told.contains("not YAML"), "{told}");
    let deep = "a:\n".to_owned()
        + &(1..200).map(|depth| format!("{}b:\n", " ".repeat(depth))).collect::<String>();
    let told = super::refused(&deep).to_string();
    assert!(told.contains("nested more than 64 deep"), "{told}");
}

#[test]
fn secrets_come_from_files_and_stay_there() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("token"), "hunter2\n").unwrap();
    let path = folder.path().join("weft.yaml");
    fs::write(&path, "admin: {listen: 0.0.0.0:9901, token: file:token}").unwrap();
    let loaded = load(&path).unwrap_or_else(|refused| panic!("{refused}"));
    let tokens = &loaded.plan.admin.as_ref().unwrap().tokens;
    assert_eq!(tokens.permissions(b"hunter2"), Some(weft_api::Permissions::ALL));
    assert!(loaded.files.contains(&folder.path().join("token")), "it is watched");
    let shown = weft::config::print::yaml(&loaded, &super::variables);
    assert!(shown.contains("file:token") && !shown.contains("hunter2"));
    assert!(!format!("{:?}", loaded.plan).contains("hunter2"));
    let written = super::good("admin: {listen: 127.0.0.1:9901, token: hunter2}");
    let told = weft::config::report::text(&written.warnings, &written.sources, false);
    assert!(told.contains("token: *******") && !told.contains("hunter2"), "{told}");
}

#[test]
fn a_path_that_is_a_default_is_beside_the_configuration_too() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("weft.yaml");
    for ledger in ["", "ledger: {wal_file: 64MiB}", "ledger: weft-data"] {
        fs::write(&file, format!("queues: {{work: {{}}}}\n{ledger}")).unwrap();
        for path in [file.as_path(), folder.path()] {
            let loaded = load(path).unwrap_or_else(|refused| panic!("{refused}"));
            let ledger = loaded.plan.part::<weft::components::storage::plan::Ledger>().unwrap();
            assert_eq!(ledger.path, folder.path().join("weft-data"), "{}", path.display());
        }
    }
}
