//! Secrets that change while a node runs: files, folders as Kubernetes mounts them, and commands.

use std::{fs, os::unix::fs::symlink};

use weft_testkit::{Upstream, Weft, until, upstream::ok};

const BIN: &str = env!("CARGO_BIN_EXE_weft");

fn config(service: &Upstream) -> String {
    format!(
        "
admin: {{ listen: '@admin', token: '${{secret:mounted/token}}' }}
telemetry: {{ log: {{ level: trace }}, access_log: {{ include: all, output: '@@/access.log' }} }}
secrets:
  mounted: {{ folder: '@@/mounted' }}
  printed: {{ command: {{ run: [cat, '@@/printed'], every: 50ms }} }}
listeners: {{ web: {{ address: '@web' }} }}
services: {{ app: {{ endpoints: '{}' }} }}
consumers: {{ mobile: {{ api_keys: '${{secret:mounted/key}}' }} }}
routes:
  - name: a
    match: /*
    authentication: api_key
    to: app
    headers: {{ request: {{ set: {{ authorization: 'Bearer ${{secret:printed}}' }} }} }}
",
        service.address()
    )
}

#[test]
fn what_is_mounted_and_printed_is_read_again_and_never_told() {
    let service = Upstream::answering(|_| ok("x"));
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    for version in ["1", "2"] {
        fs::create_dir_all(at("mounted").join(format!("..{version}"))).unwrap();
        for name in ["key", "token"] {
            let text = format!("{name}-{version}-of-the-mounted-folder");
            fs::write(at("mounted").join(format!("..{version}")).join(name), text).unwrap();
        }
    }
    symlink("..1", at("mounted/..data")).unwrap();
    symlink("..data/key", at("mounted/key")).unwrap();
    symlink("..data/token", at("mounted/token")).unwrap();
    fs::write(at("printed"), "printed-1").unwrap();
    let yaml = config(&service).replace("@@/mounted", &at("mounted").display().to_string());
    let yaml = yaml.replace("@@/printed", &at("printed").display().to_string());
    let weft = Weft::start(BIN, &yaml);
    let status = |version: &str| {
        let field = format!("x-api-key: key-{version}-of-the-mounted-folder\r\n");
        weft.get("/", &field).status()
    };
    assert_eq!((status("1"), status("2")), (200, 401));
    let told = || service.seen().pop().unwrap().get("authorization").unwrap().to_owned();
    assert_eq!(told(), "Bearer printed-1");
    // As Kubernetes does: a link is made beside it and moved over it.
    symlink("..2", at("mounted/..data_tmp")).unwrap();
    fs::rename(at("mounted/..data_tmp"), at("mounted/..data")).unwrap();
    until("the other key is taken", || (status("2") == 200).then_some(()));
    assert_eq!(status("1"), 401);
    fs::write(at("printed.fresh"), "printed-2").unwrap();
    fs::rename(at("printed.fresh"), at("printed")).unwrap();
    until("the other token is sent", || {
        assert_eq!(status("2"), 200);
        (told() == "Bearer printed-2").then_some(())
    });
    // A command that fails, and a file that is gone: what was read last stays.
    fs::remove_file(at("printed")).unwrap();
    weft.wait_line("the command of a secret failed, and the secret stays as it was");
    fs::remove_file(at("mounted/key")).unwrap();
    weft.wait_line("secret `mounted/key` cannot be read");
    assert_eq!(status("2"), 200);
    assert_eq!(told(), "Bearer printed-2");
    let request = "GET /v1/config HTTP/1.1\r\nhost: 127.0.0.1\r\n\
                   authorization: Bearer token-1-of-the-mounted-folder\r\n\r\n";
    let shown = weft.connect("admin").ask(request);
    assert_eq!(shown.status(), 200, "{}", shown.text());
    assert!(shown.text().contains("Bearer ${secret:printed}"), "{}", shown.text());
    for all in
        [shown.text(), weft.output(), fs::read_to_string(weft.folder().join("access.log")).unwrap()]
    {
        for secret in ["printed-1", "printed-2", "key-1-of", "key-2-of", "token-1-of", "token-2-of"]
        {
            assert!(!all.contains(secret), "{secret}: {all}");
        }
    }
}
