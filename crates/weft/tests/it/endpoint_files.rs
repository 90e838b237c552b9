//! Endpoints that stand in a file, which changes while requests flow.

use std::{
    fs,
    process::Command,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    thread,
};

use weft_testkit::{Upstream, Weft, until};

const BIN: &str = env!("CARGO_BIN_EXE_weft");

const CONFIG: &str = "admin: { listen: '@admin' }
telemetry: { access_log: errors }
listeners: { web: { address: '@web' } }
services: { orders: { endpoints: [{ file: endpoints.json }] } }
routes: [{ name: all, match: /*, to: orders }]
";

fn list(service: &Upstream) -> String {
    let labels = r#"{"rack": "r1", "__weight__": "3"}"#;
    format!(r#"[{{"targets": ["{}"], "labels": {labels}}}]"#, service.address())
}

/// What `weft service show orders` says.
fn show(weft: &Weft) -> String {
    let url = format!("http://{}", weft.address("admin"));
    let mut command = Command::new(BIN);
    command.args(["service", "show", "orders"]).env("WEFT_ADMIN", url);
    String::from_utf8(command.output().unwrap().stdout).unwrap()
}

#[test]
fn requests_follow_the_file_and_none_fails() {
    let (one, two) = (Upstream::saying("one"), Upstream::saying("two"));
    let weft = Weft::start(BIN, CONFIG);
    // A file that is not there yet is no reason not to start.
    let refused = weft.get("/", "");
    assert_eq!(refused.status(), 503);
    assert!(refused.text().contains("no_endpoint"), "{}", refused.text());
    weft.wait_line("there is no such file");
    let path = weft.write("endpoints.json", &list(&one));
    until("the first endpoint", || (weft.get("/", "").text() == "one").then_some(()));

    let stop = AtomicBool::new(false);
    let (ones, twos) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let wait_for = |count: &AtomicUsize| {
        let before = count.load(Relaxed);
        until("requests arrive there", || (count.load(Relaxed) > before).then_some(()));
    };
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let mut conn = weft.connect("web");
                while !stop.load(Relaxed) {
                    let response = conn.ask("GET / HTTP/1.1\r\nhost: t\r\n\r\n");
                    match (response.status(), &*response.text()) {
                        (200, "one") => ones.fetch_add(1, Relaxed),
                        (200, "two") => twos.fetch_add(1, Relaxed),
                        (status, text) => panic!("{status} {text}"),
                    };
                }
            });
        }
        weft.write("endpoints.json", &list(&two));
        wait_for(&twos);
        // Bad files keep the last good one, and say so.
        for (text, what) in [
            (&list(&one)[..20], "this is not JSON"),
            ("", "the file is empty"),
            (r#"[{"target": ["10.0.0.1:80"]}]"#, "unknown field `target`"),
        ] {
            fs::write(&path, text).unwrap();
            let show = || show(&weft);
            until(what, || show().contains(what).then_some(()));
            assert!(show().contains("stale"), "{}", show());
            let labels = ["kind=\"file\""];
            assert_eq!(weft.metric("weft_source_fresh", &labels), 0.0);
            assert_eq!(weft.metric("weft_source_endpoints", &labels), 1.0);
            wait_for(&twos);
        }
        // Written in place, as an editor may, and not renamed into it.
        fs::write(&path, list(&one)).unwrap();
        wait_for(&ones);
        assert_eq!(weft.metric("weft_source_fresh", &["kind=\"file\""]), 1.0);
        stop.store(true, Relaxed);
    });
    let output = weft.output();
    assert_eq!(
        output.matches("source failed").count(),
        2,
        "once at the start, once for all: {output}"
    );
}
