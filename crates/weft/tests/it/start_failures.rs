//! A start that fails says what, where and why, in words; never by the way through the code, even where the
//! environment asks for it.

use std::{fs, net::TcpListener, process::Command};

const BIN: &str = env!("CARGO_BIN_EXE_weft");
const ROUTES: &str = "services: { it: { endpoints: 127.0.0.1:1 } }
routes: [{ name: all, to: it }]
";

struct Failure {
    said: String,
    code: Option<i32>,
}

fn run(folder: &std::path::Path, arguments: &[&str], backtrace: &str) -> Failure {
    let output = Command::new(BIN)
        .args(arguments)
        .current_dir(folder)
        .env("RUST_BACKTRACE", backtrace)
        .env("RUST_LIB_BACKTRACE", backtrace)
        .output()
        .unwrap();
    let said = [output.stdout, output.stderr].concat();
    Failure { said: String::from_utf8(said).unwrap(), code: output.status.code() }
}

#[test]
fn no_failure_shows_the_way_through_the_code() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let web = |more: &str| format!("admin: off\nlisteners: {{ web: {{ {more} }} }}\n{ROUTES}");
    // A ledger whose newest file is gone.
    let ledger = at.join("damaged");
    fs::create_dir(&ledger).unwrap();
    fs::write(ledger.join("MANIFEST"), b"this is no manifest").unwrap();
    fs::write(ledger.join("manifest"), b"this is no manifest").unwrap();
    fs::write(at.join("key.pem"), "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n")
        .unwrap();
    fs::write(at.join("cert.pem"), "nothing").unwrap();
    fs::create_dir(at.join("folder.pem")).unwrap();
    let tables = [
        ("is no YAML", "admin: [".to_owned()),
        ("is a bad configuration", "admin: off\nlisteners: { web: { adress: 1 } }\n".to_owned()),
        ("has a port that is in use", web(&format!("address: 127.0.0.1:{port}"))),
        ("has an address that is not here", web("address: 192.0.2.1:80")),
        ("has an admin port that is in use", format!("admin: 127.0.0.1:{port}\n{ROUTES}")),
        (
            "has a ledger that is damaged",
            format!("admin: off\nledger: damaged\nqueues: {{ q: {{}} }}\n{ROUTES}"),
        ),
        (
            "has a ledger that is a file",
            format!("admin: off\nledger: key.pem\nqueues: {{ q: {{}} }}\n{ROUTES}"),
        ),
        (
            "has a TLS key that is none",
            web("address: 127.0.0.1:0, tls: { certificates: [{ cert: cert.pem, key: key.pem }] }"),
        ),
        (
            "has a TLS key that cannot be read",
            web(
                "address: 127.0.0.1:0, tls: { certificates: [{ cert: folder.pem, key: folder.pem }] }",
            ),
        ),
        (
            "has a TLS key that is not there",
            web("address: 127.0.0.1:0, tls: { certificates: [{ cert: no.pem, key: no.pem }] }"),
        ),
    ];
    let mut runs: Vec<(String, Vec<String>)> = Vec::new();
    for (index, (what, yaml)) in tables.iter().enumerate() {
        let file = format!("{index}.yaml");
        fs::write(at.join(&file), yaml).unwrap();
        runs.push(((*what).to_owned(), vec!["up".into(), "-c".into(), file]));
    }
    let plain = |what: &str, arguments: &[&str]| {
        (what.to_owned(), arguments.iter().map(|one| (*one).to_owned()).collect())
    };
    runs.push(plain("is not there", &["up", "-c", "none.yaml"]));
    runs.push(plain("is not there for check", &["check", "-c", "none.yaml"]));
    runs.push(plain("asks nobody", &["status", "--admin", "http://127.0.0.1:1"]));
    runs.push(plain("verifies no ledger", &["ledger", "verify", "--path", "none"]));
    for (what, arguments) in &runs {
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        for backtrace in ["1", "full"] {
            let failure = run(at, &arguments, backtrace);
            let said = &failure.said;
            assert!(failure.code.is_some_and(|code| (1..=2).contains(&code)), "{what}: {said}");
            assert!(said.contains("error"), "{what}: {said}");
            for trace in
                ["stack backtrace", "Stack backtrace", "   0: ", "panicked", ".rs:", "main.rs"]
            {
                assert!(!said.contains(trace), "{what}, RUST_BACKTRACE={backtrace}: {said}");
            }
        }
    }
}
