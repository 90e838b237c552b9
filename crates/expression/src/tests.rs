//! What expressions say, and what is refused as one.

use std::{borrow::Cow, net::IpAddr};

use super::{
    scope::{Result, any_name},
    *,
};

fn lower_case(name: &str) -> Result<()> {
    match name.bytes().any(|byte| byte.is_ascii_uppercase()) {
        true => Err(format!("in lower case: `{}`", name.to_ascii_lowercase())),
        false => Ok(()),
    }
}

static HEADERS: Object = Object { fields: &[], others: Some(Kind::Text), check: lower_case };
static REQUEST: Object = Object {
    fields: &[("method", Kind::Text), ("path", Kind::Text), ("headers", Kind::Object(&HEADERS))],
    others: None,
    check: any_name,
};
static SCOPE: Scope = Scope {
    variables: &[
        ("request", Kind::Object(&REQUEST)),
        ("client", Kind::Text),
        ("groups", Kind::List),
        ("data", Kind::Any),
    ],
    budget: 200_000,
};

struct Sample {
    path: String,
    client: IpAddr,
    data: Document,
    headers: Vec<(String, String)>,
}

impl Sample {
    fn new(data: &str) -> Self {
        let json = serde_json::from_str(data).unwrap();
        let headers = [("x-region", "eu-west"), ("accept", "*/*")];
        Self {
            path: "/orders/42".into(),
            client: "10.1.2.3".parse().unwrap(),
            data: Document::new(&json),
            headers: headers.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
        }
    }
}

impl Variables for Sample {
    fn variable(&self, name: &str) -> Option<Operand<'_>> {
        Some(match name {
            "request" => Operand::Object(self),
            "client" => Operand::Text(self.client.to_string().into()),
            "groups" => Operand::Texts(vec!["staff", "partners"]),
            "data" => Operand::Document(&self.data),
            _ => return None,
        })
    }
}

impl Members for Sample {
    fn get(&self, name: &str) -> Option<Operand<'_>> {
        Some(match name {
            "method" => Operand::Text("GET".into()),
            "path" => Operand::Text((&*self.path).into()),
            "headers" => Operand::Object(&self.headers),
            _ => return None,
        })
    }

    fn names(&self) -> Vec<Cow<'_, str>> {
        ["method", "path", "headers"].map(Cow::Borrowed).into()
    }
}

impl Members for Vec<(String, String)> {
    fn get(&self, name: &str) -> Option<Operand<'_>> {
        self.iter().find(|(of, _)| of == name).map(|(_, value)| Operand::Text((&**value).into()))
    }

    fn names(&self) -> Vec<Cow<'_, str>> {
        self.iter().map(|(name, _)| Cow::Borrowed(&**name)).collect()
    }
}

fn compiled(text: &str) -> Expression {
    Expression::compile(text, &SCOPE, Wanted::Bool).unwrap_or_else(|why| panic!("{text}: {why}"))
}

#[test]
fn variables_are_read_whole_and_by_field() {
    let sample = Sample::new(r#"{"total": 120, "lines": [{"n": 1}, {"n": 9}], "of": {"a": 1}}"#);
    for (text, expect) in [
        ("request.method == 'GET'", Ok(true)),
        ("request['path'] == '/orders/42'", Ok(true)),
        ("request.headers['x-region'].startsWith('eu')", Ok(true)),
        ("request.headers.accept == '*/*'", Ok(true)),
        ("has(request.headers.accept) && !has(request.headers.host)", Ok(true)),
        ("'accept' in request.headers && !('host' in request.headers)", Ok(true)),
        ("size(request.headers) == 2", Ok(true)),
        ("request.headers.exists(name, request.headers[name] == 'eu-west')", Ok(true)),
        ("request.headers.?host.orValue('none') == 'none'", Ok(true)),
        ("request.path.matches('^/orders/[0-9]+$')", Ok(true)),
        ("matches(request.path, '^/x')", Ok(false)),
        ("'staff' in groups", Ok(true)),
        ("groups.exists(group, group in ['admins', 'staff'])", Ok(true)),
        ("request.method in ['GET', 'HEAD']", Ok(true)),
        ("cidr('10.0.0.0/8').containsIP(client)", Ok(true)),
        ("cidr('10.1.2.3').containsIP(client)", Ok(true)),
        ("cidr('2001:db8::/32').containsIP(client)", Ok(false)),
        ("cidr('10.0.0.0/8').containsIP('::ffff:10.9.9.9')", Ok(true)),
        ("cidr('10.0.0.0/8').containsIP('nobody')", Ok(false)),
        ("data.of == {'a': 1} && data.lines[1].n == 9", Ok(true)),
        ("data.lines.map(line, line.n) == [1, 9]", Ok(true)),
        ("data.lines.filter(line, line.n > 5).size() == 1", Ok(true)),
        ("data.lines.all(line, line.n <= data.total)", Ok(true)),
        ("[1, 2, 3].all(x, x > 0)", Ok(true)),
        ("data.total", Err(Failure::Type("int".into()))),
        ("data.absent == 1", Err(Failure::Absent("absent".into()))),
        ("request.headers.host == 'a'", Err(Failure::Absent("host".into()))),
        ("data.total.startsWith('a')", Err(Failure::Failed)),
        ("data.total / (data.total - 120) == 1", Err(Failure::Failed)),
    ] {
        assert_eq!(compiled(text).is_true(&sample), expect, "{text}");
    }
}

#[test]
fn numbers_are_numbers() {
    let sample = Sample::new(r#"{"total": 120, "share": 0.5}"#);
    for (text, expect) in [("data.total * 2", 240.0), ("data.share", 0.5), ("7u", 7.0)] {
        let expression = Expression::compile(text, &SCOPE, Wanted::Number).unwrap();
        assert_eq!(expression.number(&sample), Ok(expect), "{text}");
    }
    let why = Expression::compile("request.path", &SCOPE, Wanted::Number).unwrap_err();
    assert!(why.contains("a number, and this one is a string"), "{why}");
}

#[test]
fn slips_are_told_with_what_was_meant() {
    for (text, why) in [
        ("reqest.path == 'a'", "names `reqest`; did you mean `request`?"),
        ("consumer.name == 'a'", "there are `request`, `client`, `groups` and `data`"),
        ("request.pth == 'a'", "no field `pth`; did you mean `path`?"),
        (
            "request.protocol == 'a'",
            "no field `protocol`; there are `method`, `path` and `headers`",
        ),
        ("request.headers['X-A'] == 'a'", "in lower case: `x-a`"),
        ("request == request", "fields are compared"),
        ("request.path.matches(request.method)", "must be written out"),
        ("request.path.matches('(')", "not a regular expression"),
        ("request.path.matches('(a{1000}){1000}')", "not a regular expression"),
        ("cidr('10.0.0.0/33').containsIP(client)", "always fails"),
        ("cidr(client).containsIP(1)", "no function `containsIP(int)` of a network"),
        ("cidr(client)", "this one is a network"),
        ("data.a.all(x, data.b.all(y, x == y))", "within another"),
    ] {
        match Expression::compile(text, &SCOPE, Wanted::Bool) {
            Ok(_) => panic!("`{text}` is taken"),
            Err(said) => assert!(said.contains(why), "{text}: {said}"),
        }
    }
}

#[test]
fn a_loop_pays_before_it_begins() {
    let numbers = |count: usize| {
        let all: Vec<String> = (0..count).map(|number| number.to_string()).collect();
        Sample::new(&format!(
            "{{\"all\": [{}], \"text\": \"{}\"}}",
            all.join(","),
            "x".repeat(9_000)
        ))
    };
    for (text, few, many) in [
        ("data.all.all(x, x >= 0)", 1_000, 100_000),
        ("data.all.map(x, x + 1).size() > 0", 1_000, 100_000),
        ("data.all.filter(x, x > 0).size() > 0", 1_000, 100_000),
        // Each turn looks at a variable that is as large as all of them.
        ("data.all.all(x, x in data.all)", 100, 5_000),
        ("data.all.map(x, data).size() > 0", 100, 5_000),
        ("data.all.all(x, data.text.contains('x'))", 50, 5_000),
    ] {
        let expression = compiled(text);
        assert_eq!(expression.is_true(&numbers(few)), Ok(true), "{text}");
        let fault = expression.is_true(&numbers(many)).unwrap_err();
        // A variable that could not be paid for is as if it were not there.
        assert!(matches!(fault, Failure::TooLong | Failure::Absent(_)), "{text}: {fault:?}");
    }
}

#[test]
fn what_was_taken_before_is_bounded_as_well() {
    let sample = Sample::new(r#"{"pattern": "^/o", "large": "(a{1000}){1000}"}"#);
    let again = |text| Expression::compile_again(text, &SCOPE).unwrap();
    assert_eq!(again("request.path.matches(data.pattern)").is_true(&sample), Ok(true));
    assert_eq!(again("request.path.matches(data.large)").is_true(&sample), Err(Failure::Failed));
    assert_eq!(
        again("nosuch(request.path)").is_true(&sample),
        Err(Failure::Absent("nosuch".into()))
    );
}

#[test]
fn a_fault_never_shows_what_was_looked_at() {
    let sample = Sample::new(r#"{"secret": "hunter2"}"#);
    let fault = compiled("data[data.secret] == 1").is_true(&sample).unwrap_err();
    assert_eq!(fault, Failure::Failed);
    let fault = compiled("data.secret + 1 == 2").is_true(&sample).unwrap_err();
    assert!(!fault.to_string().contains("hunter2"), "{fault}");
}

proptest::proptest! {
    #[test]
    fn no_text_brings_it_down(text in "[a-z.()\\[\\]{}!\\-'\"&|?:<>=0-9 ,]{0,120}") {
        let sample = Sample::new(r#"{"a": [1, 2, 3]}"#);
        for expression in [
            Expression::compile(&text, &SCOPE, Wanted::Bool),
            Expression::compile_again(&text, &SCOPE),
        ].into_iter().flatten() {
            let _ = expression.is_true(&sample);
        }
    }
}
