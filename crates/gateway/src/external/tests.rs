//! What answers come to.

use weft_proxy::Answered;

use super::*;

fn settings(ask: Ask) -> ExternalAuthorization {
    ExternalAuthorization {
        service: crate::fixture::name("authz"),
        ask,
        shown: vec![],
        to_service: vec!["x-user".into(), "x-roles".into(), "x-absent".into()],
        to_client: vec!["set-cookie".into()],
        body_bytes_max: None,
        timeout: Duration::from_secs(1),
        opens: false,
    }
}

/// Settings of a question over gRPC.
fn envoys() -> ExternalAuthorization {
    let to_service = ["a", "b", "c", "d", "x-user", "x-roles", "x-absent"].map(Into::into).to_vec();
    ExternalAuthorization { to_service, ..settings(Ask::Grpc(Vec::new())) }
}

fn told(said: Result<Said, Fault>) -> String {
    told_by(envoys(), said)
}

fn answered(status: u16, of: &[(&str, &str)], body: &[u8]) -> Answered {
    let mut fields = Fields::new();
    for (name, value) in of {
        assert!(fields.append(name, value.as_bytes()), "{name}");
    }
    let (body, end) = (Bytes::copy_from_slice(body), BodyEnd::Whole);
    Answered { status, fields, body, trailers: None, end, reason: None }
}

/// The fields of a request after an answer, or what is said to the client.
fn told_by(settings: ExternalAuthorization, said: Result<Said, Fault>) -> String {
    let line = |fields: &Fields| {
        let one =
            |(name, value): (&str, &[u8])| format!("{name}={}", String::from_utf8_lossy(value));
        fields.iter().map(one).collect::<Vec<_>>().join(" ")
    };
    match said {
        Ok(Said::Allowed(changes)) => {
            let (mut request, mut response) = (Fields::new(), Fields::new());
            for (name, value) in [
                ("x-user", "root"),
                ("x_user", "root"),
                ("x.roles", "admin"),
                ("x-absent", "forged"),
                ("a", "1"),
                ("b", "1"),
                ("free", "1"),
            ] {
                request.append(name, value.as_bytes());
            }
            let policy = External { route: crate::fixture::name("r"), settings };
            policy.change(Some(&changes), &mut request);
            changes.response.iter().for_each(|change| change.apply(&mut response));
            format!("{} | {}", line(&request), line(&response))
        }
        Ok(Said::Denied(status, fields, body)) => {
            format!("{status} {} {}", line(&fields), String::from_utf8_lossy(&body))
        }
        Err(why) => format!("failed: {why}"),
    }
}

#[test]
fn an_answer_over_http() {
    let read = |answered| {
        let settings = settings(Ask::Path("/".into()));
        let said = http::read(&settings, answered);
        told_by(settings, said)
    };
    let fields = [
        ("x-user", "ada"),
        ("x-roles", "a"),
        ("x-roles", "b"),
        ("x-other", "1"),
        ("set-cookie", "a=1"),
        ("set-cookie", "b=2"),
        ("content-length", "0"),
    ];
    let allowed = "a=1 b=1 free=1 x-user=ada x-roles=a x-roles=b | set-cookie=a=1 set-cookie=b=2";
    assert_eq!(read(answered(200, &fields, b"")), allowed);
    assert_eq!(read(answered(204, &[], b"")), "a=1 b=1 free=1 | ");
    let fields = [("location", "/login"), ("connection", "x"), ("x", "1"), ("content-length", "2")];
    assert_eq!(read(answered(302, &fields, b"go")), "302 location=/login go");
    assert_eq!(read(answered(403, &[], b"no")), "403  no");
    assert_eq!(read(answered(500, &[], b"")), "failed: the answer has status 500");
    assert_eq!(read(answered(503, &[], b"")), "failed: the answer has status 503");
}

fn varint(field: u8, wire: u8, out: &mut Vec<u8>) {
    out.push(field << 3 | wire);
}

/// A field of bytes, by hand, so that the numbers are held to what Envoy has.
fn part(field: u8, of: &[u8]) -> Vec<u8> {
    let mut all = Vec::new();
    varint(field, 2, &mut all);
    assert!(of.len() < 128);
    all.push(u8::try_from(of.len()).unwrap_or_default());
    all.extend_from_slice(of);
    all
}

fn option(name: &str, value: &str, more: &[u8]) -> Vec<u8> {
    let header = [part(1, name.as_bytes()), part(2, value.as_bytes())].concat();
    [part(1, &header), more.to_vec()].concat()
}

fn grpc(message: &[u8]) -> Answered {
    let mut body = vec![0, 0, 0, 0, u8::try_from(message.len()).unwrap_or_default()];
    body.extend_from_slice(message);
    let mut answered = answered(200, &[("content-type", "application/grpc")], &body);
    let mut trailers = Fields::new();
    trailers.append("grpc-status", b"0");
    answered.trailers = Some(trailers);
    answered
}

#[test]
fn an_answer_over_grpc() {
    let read = |message: &[u8]| told(check::read(&envoys(), &grpc(message)));
    let code = |code: u8| part(1, &[8, code]);
    // What the answer may tell and does not is nobody's.
    let plain = "free=1 | ";
    // Nothing at all is a status of zero, as protobuf writes it.
    assert_eq!(read(b""), plain);
    assert_eq!(read(&code(0)), plain);
    assert_eq!(read(&code(7)), "403  ");
    // A status that refuses counts, whatever stands beside it.
    assert_eq!(read(&[code(16), part(3, b"")].concat()), "403  ");
    let (append, not, absent, exists) = (part(2, &[8, 1]), part(2, &[8, 0]), [24, 1], [24, 3]);
    let allowed = [
        part(2, &option("a", "2", &append)),
        part(2, &option("b", "2", &not)),
        part(2, &option("c", "2", b"")),
        part(2, &option("a", "3", &absent)),
        part(2, &option("d", "3", &exists)),
        part(2, &option("host", "evil", b"")),
        part(2, &option("content-length", "1", b"")),
        part(2, &option("x-consumer-username", "root", b"")),
        // Not among those that it may tell.
        part(2, &option("free", "2", b"")),
        part(2, &option("x-more", "2", b"")),
        part(2, &option("X-Bad", "a\r\nb", b"")),
    ];
    let allowed: Vec<u8> = allowed.concat();
    assert!(allowed.len() > 127);
    assert_eq!(read_long(&[code(0), long_part(3, &allowed)].concat()), "a=1 free=1 a=2 b=2 c=2 | ");
    let allowed = [part(5, b"A"), part(6, &option("x-seen", "1", b""))].concat();
    assert_eq!(read(&part(3, &allowed)), "free=1 | x-seen=1");
    let denied = [part(1, &[8, 0x91, 3]), part(2, &option("x-why", "no", b"")), part(3, b"never")];
    assert_eq!(read(&[code(7), part(2, &denied.concat())].concat()), "401 x-why=no never");
    // What is set and removed is gone, as in Envoy.
    let allowed = [part(2, &option("a", "2", b"")), part(5, b"a")].concat();
    assert_eq!(read(&part(3, &allowed)), plain);
    // One that denies without a status denies.
    assert_eq!(read(&part(2, b"")), "403  ");
    assert_eq!(
        read(&[code(7), part(2, &part(1, &[8, 7]))].concat()),
        "failed: the answer denies with a status that is none"
    );
}

/// A part that may be long.
fn long_part(field: u8, of: &[u8]) -> Vec<u8> {
    let mut all = vec![field << 3 | 2];
    let mut len = of.len();
    while len > 127 {
        all.push((len & 0x7f) as u8 | 0x80);
        len >>= 7;
    }
    all.push(len as u8);
    all.extend_from_slice(of);
    all
}

#[test]
fn an_answer_that_changes_more_fields_than_it_may_decides_nothing() {
    let http = |count: usize, value: &str| {
        let fields = vec![("x-roles", value); count];
        let settings = settings(Ask::Path("/".into()));
        let said = http::read(&settings, answered(200, &fields, b""));
        told_by(settings, said)
    };
    let option = option("x-roles", "1", b"");
    let grpc =
        |field: u8, count: usize| read_long(&long_part(3, &part(field, &option).repeat(count)));
    let denied = |count: usize| {
        let body = part(2, &option).repeat(count);
        read_long(&[part(1, &[8, 7]), long_part(2, &body)].concat())
    };
    let removed = |count: usize| read_long(&long_part(3, &part(5, b"x-gone").repeat(count)));
    let many = "failed: the answer changes more than 128 fields";
    for of in [
        &|count| http(count, "1"),
        &|count| grpc(2, count),
        &|count| grpc(6, count),
        &denied,
        &removed,
    ] as [&dyn Fn(usize) -> String; 5]
    {
        assert!(!of(128).starts_with("failed"));
        assert_eq!(of(129), many);
        assert_eq!(of(12_000), many);
    }
    let large = "failed: the answer changes more than 65536 bytes of fields";
    assert_eq!(http(70, &"v".repeat(1_000)), large);
}

#[test]
fn cookies_of_an_answer_take_no_place_of_others() {
    let cookie = |value: &str, more: &[u8]| option("set-cookie", value, more);
    let two = |field: u8| [part(field, &cookie("a=1", b"")), part(field, &cookie("b=2", &[24, 3]))];
    let denied = told(check::read(&envoys(), &grpc(&part(2, &two(2).concat()))));
    assert_eq!(denied, "403 set-cookie=a=1 set-cookie=b=2 ");
    let both = [part(6, &cookie("a=1", b"")), part(6, &cookie("b=2", b""))].concat();
    let Ok(Said::Allowed(changes)) = check::read(&envoys(), &grpc(&part(3, &both))) else {
        panic!("denied")
    };
    let mut fields = Fields::new();
    fields.append("set-cookie", b"of=service");
    changes.response.iter().for_each(|change| change.apply(&mut fields));
    let all: Vec<_> = fields.all_named("set-cookie").map(String::from_utf8_lossy).collect();
    assert_eq!(all, ["of=service", "a=1", "b=2"]);
}

#[test]
fn an_answer_that_says_that_it_has_failed_decides_nothing() {
    let read = |message: &[u8]| told(check::read(&envoys(), &grpc(message)));
    let error = part(5, &part(3, b"it broke"));
    let failed = "failed: it says that it has failed, with status 0";
    assert_eq!(read(&[part(1, &[8, 13]), error.clone()].concat()), failed);
    assert_eq!(read(&error), failed);
    // It is denied all the same.
    assert_eq!(read(&[part(2, b""), error].concat()), "403  ");
}

fn read_long(message: &[u8]) -> String {
    let mut body = vec![0];
    body.extend_from_slice(&(message.len() as u32).to_be_bytes());
    body.extend_from_slice(message);
    let mut answered = grpc(b"");
    answered.body = body.into();
    told(check::read(&envoys(), &answered))
}

#[test]
fn what_is_no_answer_of_grpc_decides_nothing() {
    let mut refused = grpc(b"");
    refused.trailers = None;
    assert_eq!(told(check::read(&envoys(), &refused)), "failed: the answer has no status of gRPC");
    let only = [("grpc-status", "14"), ("grpc-message", "go%20away")];
    let only = answered(200, &only, b"");
    assert_eq!(
        told(check::read(&envoys(), &only)),
        "failed: the call ended with UNAVAILABLE: go away"
    );
    assert_eq!(
        told(check::read(&envoys(), &answered(404, &[], b""))),
        "failed: the answer has status 404"
    );
    for body in [&b""[..], &[0, 0, 0, 0], &[0, 0, 0, 0, 9], &[1, 0, 0, 0, 0], &[0, 0, 0, 0, 0, 7]] {
        let mut bad = grpc(b"");
        bad.body = Bytes::copy_from_slice(body);
        let told = told(check::read(&envoys(), &bad));
        assert_eq!(told, "failed: the answer is not one message of gRPC", "{body:?}");
    }
    assert!(told(check::read(&envoys(), &grpc(&[0x0a, 0x50]))).contains("not understood"));
}
