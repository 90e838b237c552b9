//! Secrets: where they are read from, and that nothing tells them.

use std::{fs, path::Path};

use tempfile::TempDir;
use weft::config::{Loaded, Loader, Refused, print, report};

const SECRET: &str = "hunter2-hunter2-hunter2";

/// A folder with a configuration, beside which its secrets stand.
struct Files {
    folder: TempDir,
    loader: Loader,
}

impl Files {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap(), loader: Loader::default() }
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn load(&mut self, text: &str) -> Result<Loaded, Box<Refused>> {
        let file = self.folder.path().join("weft.yaml");
        self.loader.load_text(&file, text, &|name| (name == "ENV").then(|| SECRET.to_owned()))
    }
}

fn yaml(secrets: &str, header: &str) -> String {
    format!(
        "secrets: {secrets}
listeners: {{ web: {{ address: 127.0.0.1:8080 }} }}
services: {{ app: {{ endpoints: 127.0.0.1:9000 }} }}
routes: [{{ name: a, match: /*, to: app, headers: {{ request: {{ set: {{ authorization: \"{header}\" }} }} }} }}]
"
    )
}

/// What the only route sets.
fn header(loaded: &Loaded) -> String {
    loaded.plan.proxy.routes[0].policy.request_headers.set[0].1.clone()
}

#[test]
fn every_source_is_read_and_nothing_shows_it() {
    let mut files = Files::new();
    files.write("one", &format!("{SECRET}\r\n"));
    files.write("mounted/db.password", SECRET);
    files.write("tell.sh", &format!("#!/bin/sh\necho {SECRET}\n"));
    for (secrets, name) in [
        ("{ s: { file: one } }", "s"),
        ("{ s: { env: ENV } }", "s"),
        ("{ s: { folder: mounted } }", "s/db.password"),
        ("{ a/b: { folder: mounted } }", "a/b/db.password"),
        ("{ s: { command: [sh, -c, 'echo $0', hunter2-hunter2-hunter2] } }", "s"),
        ("{ s: { command: { run: [cat, \"${HERE:-/dev/null}\"], timeout: 5s } } }", "none"),
    ] {
        let text = yaml(secrets, &format!("Bearer ${{secret:{name}}}"));
        let loaded = match files.load(&text) {
            Ok(loaded) => loaded,
            Err(_) if name == "none" => continue,
            Err(refused) => {
                panic!("{}", report::text(&refused.problems, &refused.sources, false))
            }
        };
        assert_eq!(header(&loaded), format!("Bearer {SECRET}"), "{secrets}");
        assert!(loaded.warnings.is_empty(), "{:?}", loaded.warnings);
        let none = |_: &str| None;
        let shown = print::yaml(&loaded, &none);
        let line = format!("authorization: \"Bearer ${{secret:{name}}}\" # ");
        assert!(
            shown.contains(&line) && shown.contains(&format!(", ${{secret:{name}}}\n")),
            "{shown}"
        );
        let sections = shown.split("listeners:").nth(1).unwrap();
        assert!(!sections.contains(SECRET), "{shown}");
        assert!(print::json(&loaded, &none).to_string().contains("Bearer ${secret:"));
    }
}

#[test]
fn what_is_refused_never_tells_it() {
    let mut files = Files::new();
    files.write("one", SECRET);
    files.write("port", "80801");
    files.write("file", "file:/etc/hostname");
    let secrets = "{ s: { file: one }, port: { file: port }, file: { file: file } }";
    let good = yaml(secrets, "${secret:s}");
    for (from, to) in [
        ("127.0.0.1:8080", "\"${secret:s}\""),
        ("127.0.0.1:8080", "\"127.0.0.1:${secret:port}\""),
        ("name: a", "name: \"${secret:s}\""),
        ("match: /*", "match: { host: \"${secret:s}\" }"),
        ("match: /*", "match: { headers: { a: \"${secret:s}\" } }"),
        ("to: app", "to: \"${secret:s}\""),
        ("to: app", "to: app, timeout: \"${secret:s}\""),
        ("to: app", "to: app, retry: { retries: \"${secret:s}\" }"),
        ("to: app", "to: app, policies: \"${secret:s}\""),
        ("routes:", "admin: { listen: \"${secret:s}\", token: \"${secret:file}\" }\nroutes:"),
        ("routes:", "consumers: \"${secret:s}\"\nroutes:"),
        ("routes:", "\"${secret:s}\": 5\nroutes: \"${secret:s}\"\nx: "),
    ] {
        let refused = files.load(&good.replacen(from, to, 1)).unwrap_err();
        let told = report::text(&refused.problems, &refused.sources, false);
        let json = report::json(&refused.problems, &refused.sources).to_string();
        for all in [&told, &json, &refused.to_string()] {
            assert!(!all.contains("hunter2") && !all.contains("80801"), "{to}: {all}");
        }
        let is_told =
            told.contains("cannot stand here") || told.contains("configuration has no key");
        assert!(is_told, "{to}: {told}");
    }
    // A secret that reads like a reference is none.
    let text = good.replace(
        "routes:",
        "admin: { listen: 127.0.0.1:9901, token: \"${secret:file}\" }\nroutes:",
    );
    assert!(files.load(&text).is_ok());
}

#[test]
fn a_secret_that_changes_is_read_again_with_the_routes_that_stay() {
    let mut files = Files::new();
    files.write("one", "before");
    let text = yaml("{ s: { file: one } }", "${secret:s}");
    let loaded = files.load(&text).unwrap();
    let path = files.folder.path().join("one");
    assert!(loaded.files.contains(&path), "{:?}", loaded.files);
    files.write("one", "after");
    assert_eq!(header(&files.load(&text).unwrap()), "after");
    fs::remove_file(&path).unwrap();
    let refused = files.load(&text).unwrap_err();
    assert!(refused.files.contains(&path), "its return mends it");
    files.write("one", "again");
    assert_eq!(header(&files.load(&text).unwrap()), "again");
    let text = text.replace("{ s: {", "{ t: { file: one }, s: {");
    let told = files.load(&text).unwrap().warnings;
    assert!(told[0].message.contains("nothing asks for the secret `t`"), "{told:?}");
}

#[test]
fn private_keys_and_the_words_of_files_may_be_secrets() {
    let mut files = Files::new();
    let issued = weft_testkit::Authority::new("here").issue(&["a.example"]);
    issued.write(files.folder.path(), "web");
    let tls = "127.0.0.1:8443, tls: { certificates: [{ cert: web.crt, key: \"${secret:s}\" }] }";
    let text = yaml("{ s: { file: web.key } }", "a").replace("127.0.0.1:8080", tls);
    let loaded = files.load(&text);
    let loaded = loaded.unwrap_or_else(|refused| {
        panic!("{}", report::text(&refused.problems, &refused.sources, false))
    });
    assert!(!print::yaml(&loaded, &|_| None).contains("PRIVATE"));
}

#[test]
fn commands_are_bounded_and_run_once_for_many_loads() {
    let mut files = Files::new();
    files.write("tell.sh", "#!/bin/sh\necho x >> runs\necho told\n");
    let at = files.folder.path().display().to_string();
    let run = format!("{{ s: {{ command: [sh, -c, 'cd {at}; sh tell.sh'] }} }}");
    let text = yaml(&run, "${secret:s} ${secret:s}");
    for _ in 0..3 {
        assert_eq!(header(&files.load(&text).unwrap()), "told told");
    }
    let runs = fs::read_to_string(files.folder.path().join("runs")).unwrap();
    assert_eq!(runs.lines().count(), 1, "{runs}");
    for (command, why) in [
        ("[sh, -c, 'yes hunter2']", "its command prints more than 65536 bytes"),
        ("{ run: [sh, -c, 'sleep 60 & sleep 60'], timeout: 50ms }", "took longer than 50ms"),
        ("{ run: [sh, -c, 'exec >&-; sleep 60'], timeout: 50ms }", "took longer than 50ms"),
        ("[sh, -c, 'echo hunter2; exit 3']", "its command exited with 3"),
        ("[sh, -c, 'kill -9 $$']", "its command ended by signal 9"),
        ("[sh, -c, 'echo hunter2 >&2']", "its command printed nothing"),
        ("[printf, 'a\\0b']", "it holds a NUL"),
        ("/nonexistent/program", "/nonexistent/program cannot be run: No such file"),
    ] {
        let text = yaml(&format!("{{ s: {{ command: {command} }} }}"), "${secret:s}");
        let refused = files.load(&text).unwrap_err();
        let [problem] = &refused.problems[..] else { panic!("{:?}", refused.problems) };
        assert!(problem.message.contains(why), "{command}: {}", problem.message);
        assert!(!problem.message.contains("hunter2"), "{}", problem.message);
    }
}

#[test]
fn a_command_that_fails_later_leaves_what_it_printed() {
    let mut files = Files::new();
    files.write("value", "first");
    let path = files.folder.path().join("value").display().to_string();
    let text = yaml(
        &format!("{{ s: {{ command: {{ run: [cat, {path}], every: 20ms }} }} }}"),
        "${secret:s}",
    );
    assert_eq!(header(&files.load(&text).unwrap()), "first");
    let commands = files.loader.commands().clone();
    commands.keep();
    files.write("value", "second");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let wait = std::time::Duration::from_secs(20);
    runtime.block_on(async { tokio::time::timeout(wait, commands.changed()).await }).unwrap();
    fs::remove_file(Path::new(&path)).unwrap();
    assert_eq!(header(&files.load(&text).unwrap()), "second");
}
