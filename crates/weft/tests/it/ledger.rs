//! `weft ledger` on files and on a running node, and two processes that want the same folder.

use std::{
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Child, Command, Output, Stdio},
    sync::{Arc, Mutex},
};

use serde_json::Value;
use weft_testkit::{Weft, until};

const BIN: &str = env!("CARGO_BIN_EXE_weft");

const NODE: &str = "admin: { listen: '@admin' }
ledger: { path: '@@/data', wal_file: 1MiB }
listeners: { web: { address: '@web' } }
topics: { order.placed: {} }
routes: [ { name: placed, match: /events, publish: order.placed } ]
";

fn publish(weft: &Weft, count: usize) {
    for number in 0..count {
        let body = format!("{{\"number\":{number}}}");
        let answer = weft.ask(format!(
            "POST /events HTTP/1.1\r\nhost: t\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        ));
        assert_eq!(answer.status(), 200, "{}", answer.text());
    }
}

/// A command on the files of a folder.
fn on(folder: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(BIN);
    command.arg("ledger").args(arguments).args(["--config", "/nonexistent/weft.yaml", "--path"]);
    command.arg(folder).output().unwrap()
}

/// A command that asks a node.
fn asked(node: &Weft, arguments: &[&str]) -> Output {
    let url = format!("http://{}", node.address("admin"));
    let mut command = Command::new(BIN);
    command.arg("ledger").args(arguments).env("WEFT_ADMIN", url).env_remove("WEFT_ADMIN_TOKEN");
    command.output().unwrap()
}

fn text(output: &Output) -> String {
    String::from_utf8([&output.stdout[..], &output.stderr[..]].concat()).unwrap()
}

fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap();
    let mut names: Vec<_> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn a_backup_is_made_refused_verified_and_restored() {
    let mut weft = Weft::start(BIN, NODE);
    publish(&weft, 20);
    let folder = weft.folder().to_owned();
    let (data, copy, back) = (folder.join("data"), folder.join("copy"), folder.join("back"));
    let to = copy.to_str().unwrap();
    let made = asked(&weft, &["backup", to]);
    assert!(made.status.success(), "{}", text(&made));
    let there = names(&copy);
    let again = asked(&weft, &["backup", to]);
    assert_eq!(again.status.code(), Some(1), "{}", text(&again));
    assert!(text(&again).contains(to) && text(&again).contains("a backup already"));
    assert_eq!(names(&copy), there);
    for near in [data.clone(), data.join("copies/today"), folder.clone()] {
        let refused = asked(&weft, &["backup", near.to_str().unwrap()]);
        assert_eq!(refused.status.code(), Some(1), "{near:?}: {}", text(&refused));
        assert!(text(&refused).contains("own folder"), "{}", text(&refused));
    }
    let whole = on(&copy, &["verify"]);
    assert!(whole.status.success(), "{}", text(&whole));
    let told = on(&copy, &["inspect", "--output", "json"]);
    let told: Value = serde_json::from_slice(&told.stdout).unwrap();
    assert_eq!(told["state"], "backup");

    // While it runs nobody else has its folder, and is told who does.
    let pid = format!("process {} has", weft.id());
    for command in [&["verify"][..], &["inspect"], &["rewrap"], &["restore", to]] {
        let busy = on(&data, command);
        assert_eq!(busy.status.code(), Some(1), "{command:?}");
        if command[0] != "restore" {
            assert!(text(&busy).contains(&pid), "{command:?}: {}", text(&busy));
        }
    }
    weft.terminate();
    assert!(weft.wait().success());

    // A file that was cut is named, in words and in JSON, and makes no ledger.
    let wal = std::fs::read_dir(copy.join("wal")).unwrap().next().unwrap().unwrap().path();
    let bytes = std::fs::read(&wal).unwrap();
    std::fs::write(&wal, &bytes[..bytes.len() - 1]).unwrap();
    let name = format!("wal/{}", wal.file_name().unwrap().to_str().unwrap());
    let cut = on(&copy, &["verify"]);
    assert_eq!(cut.status.code(), Some(1));
    assert!(text(&cut).contains(&format!("damaged: {name} was cut")), "{}", text(&cut));
    let cut = on(&copy, &["verify", "--output", "json"]);
    assert_eq!(cut.status.code(), Some(1));
    let cut: Value = serde_json::from_slice(&cut.stdout).unwrap();
    assert!(cut["damage"][0].as_str().unwrap().contains(&name), "{cut}");
    let refused = on(&back, &["restore", to]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(text(&refused).contains(&name), "{}", text(&refused));
    std::fs::write(&wal, &bytes).unwrap();
    let done = on(&back, &["restore", to]);
    assert!(done.status.success(), "{}", text(&done));
    assert!(on(&back, &["verify"]).status.success());
    assert_eq!(on(&back, &["restore", to]).status.code(), Some(1), "not over a ledger");

    // A restore that did not end is not started on.
    std::fs::write(back.join("unfinished"), "restore\n").unwrap();
    let half = on(&back, &["verify"]);
    assert_eq!(half.status.code(), Some(1));
    assert!(text(&half).contains("unfinished restore"), "{}", text(&half));
    let yaml = format!(
        "admin: off\nledger: {{ path: '{}' }}\nlisteners: {{ web: {{ address: '127.0.0.1:0' }} }}\ntopics: {{ order.placed: {{}} }}\n",
        back.display()
    );
    let path = weft.write("half.yaml", &yaml);
    let up = Command::new(BIN).args(["up", "--config"]).arg(path).output().unwrap();
    assert!(!up.status.success());
    assert!(text(&up).contains("unfinished restore"), "{}", text(&up));
    assert!(text(&up).contains("weft ledger restore"), "how to go on: {}", text(&up));
}

/// A process whose output is gathered; killed when it is dropped.
struct Second {
    child: Child,
    lines: Arc<Mutex<Vec<String>>>,
}

impl Second {
    fn start(config: &Path) -> Self {
        let mut child = Command::new(BIN)
            .args(["up", "--config"])
            .arg(config)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = Arc::new(Mutex::new(Vec::new()));
        let (from, to) = (child.stderr.take().unwrap(), lines.clone());
        std::thread::spawn(move || {
            for line in BufReader::new(from).lines().map_while(Result::ok) {
                to.lock().unwrap().push(line);
            }
        });
        Self { child, lines }
    }

    fn wait_line(&self, text: &str) {
        until(text, || {
            let lines = self.lines.lock().unwrap();
            lines.iter().any(|line| line.contains(text)).then_some(())
        });
    }
}

impl Drop for Second {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_second_process_says_whom_it_waits_for_also_without_the_lock_file() {
    let mut weft = Weft::start(BIN, NODE);
    publish(&weft, 3);
    let yaml = format!(
        "admin: off\nledger: {{ path: '{}' }}\nlisteners: {{ web: {{ address: '127.0.0.1:0' }} }}\ntopics: {{ order.placed: {{}} }}\n",
        weft.folder().join("data").display()
    );
    let config = weft.write("second.yaml", &yaml);
    let second = Second::start(&config);
    second.wait_line(&format!("process {} has this ledger open", weft.id()));
    drop(second);
    std::fs::remove_file(weft.folder().join("data/lock")).unwrap();
    let second = Second::start(&config);
    second.wait_line("waiting for the ledger: another process has this ledger open");
    publish(&weft, 3);
    weft.terminate();
    assert!(weft.wait().success());
    second.wait_line("weft is up");
}

#[test]
fn a_node_does_not_start_without_what_belongs_to_its_ledger() {
    let weft = Weft::start(BIN, NODE);
    publish(&weft, 20);
    weft.kill();
    let data = weft.folder().join("data");
    let lost: Vec<_> =
        names(&data.join("wal")).into_iter().filter(|name| name.ends_with(".wal")).collect();
    std::fs::remove_file(data.join("wal").join(&lost[0])).unwrap();
    let config = weft.folder().join("weft.yaml");
    let mut up = Command::new(BIN);
    let refused = up.args(["up", "--config"]).arg(&config).output().unwrap();
    assert_eq!(refused.status.code(), Some(1), "{}", text(&refused));
    for word in [&*lost[0], "missing", "weft ledger repair --accept-loss"] {
        assert!(text(&refused).contains(word), "{word}: {}", text(&refused));
    }
    assert!(text(&on(&data, &["verify"])).contains(&lost[0]));
    let asked = on(&data, &["repair"]);
    assert_eq!(asked.status.code(), Some(2), "a loss is accepted in words: {}", text(&asked));
    let repaired = on(&data, &["repair", "--accept-loss"]);
    assert!(repaired.status.success(), "{}", text(&repaired));
    assert!(text(&repaired).contains(&format!("lost: wal/{} is missing", lost[0])));
    let verified = on(&data, &["verify"]);
    assert!(verified.status.success(), "{}", text(&verified));
}
