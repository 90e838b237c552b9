//! A loader that has loaded before comes to the same as one that has not.

use std::{
    fmt::Write,
    path::Path,
    sync::{Arc, LazyLock},
};

use proptest::{prelude::*, sample::select};
use weft::config::{Loader, print, report};

use super::{load, variables};

const FULL: &str = include_str!("good/full.yaml");
const ROUTES: &str = "
admin: off
listeners: { web: { address: '127.0.0.1:80' }, raw: { address: '127.0.0.1:81', protocol: tcp, to: a } }
services: { a: { endpoints: '127.0.0.1:82' }, b: { endpoints: '127.0.0.1:83' } }
policies: { patient: { timeout: 20s }, bold: { retry: { retries: 3 } } }
routes:
  - { name: r0, match: /r0/*, to: a }
  - { name: r1, match: /r1/*, to: a, policies: patient }
  - name: r2
    match: [/r2/*, { path: /s2, method: POST }]
    to: b
  # between
  - { name: r3, match: /r3/*,
      to: [a, b], timeout: 3s }
  - name: r4
    match: { path: '~/r4/[0-9]+' }
    respond:
      status: 200
      body: |
        - { name: not, match: /a/*, to: route }

        the end
  - { name: r5, match: '/r5/${PORT}', to: a }
  - { name: r6, match: '/r6/{x}', rewrite: { template: '/s/{x}' }, to: b, listeners: web }
  - name: r7
    match: \"/r7/*\"
    policies: [patient, bold]
    fallback: { to: a }
    to: b

  - { name: r8, match: /r8/*, to: a }
  - { name: r9, match: /r9/*, to: b }
telemetry: { access_log: off }
";

/// Large sections, before the routes and behind them.
static SECTIONS: LazyLock<String> = LazyLock::new(|| {
    let mut text = String::from("admin: off\n# consumers\nconsumers:\n");
    for number in 0..80 {
        let _ =
            writeln!(text, "  c{number}: {{ api_keys: key-of-{number}-0123456789, groups: [g] }}");
    }
    text.push_str("\nlisteners: { web: { address: '127.0.0.1:80' } }\n");
    text.push_str("routes:\n  - { name: r0, match: /r0/*, to: s0, authentication: api_key }\n");
    text.push_str("  - { name: r1, match: /r1/*, to: s1 }\nservices:\n");
    for number in 0..80 {
        let _ = writeln!(text, "  s{number}:\n    endpoints: '127.0.0.1:{}'", 1_000 + number);
    }
    text.push_str("telemetry: { access_log: off }\n");
    text
});

/// What a configuration came to, with all that is said of it.
fn told(loader: &mut Loader, text: &str) -> String {
    let mut told = String::new();
    match loader.load_text(Path::new("weft.yaml"), text, &variables) {
        Ok(loaded) => {
            let _ = writeln!(told, "{:?}\n{:?}", loaded.plan, loaded.files);
            told += &report::text(&loaded.warnings, &loaded.sources, false);
            told += &print::yaml(&loaded, &variables);
        }
        Err(refused) => {
            let _ = writeln!(told, "{:?}\n{:?}", refused.problems, refused.files);
            told += &report::text(&refused.problems, &refused.sources, false);
        }
    }
    told
}

/// A change of a text: at a place, so many bytes or lines are replaced by something.
#[derive(Clone, Debug)]
enum Change {
    Bytes { at: usize, gone: usize, new: &'static str },
    Lines { at: usize, gone: usize, new: &'static str },
    Move { from: usize, to: usize },
    Undo,
}

impl Change {
    fn of(&self, text: &str) -> String {
        let mut lines: Vec<&str> = text.split_inclusive('\n').collect();
        match *self {
            Self::Bytes { at, gone, new } => {
                let floor = |mut at: usize| {
                    while !text.is_char_boundary(at) {
                        at -= 1;
                    }
                    at
                };
                let from = floor(at % (text.len() + 1));
                let to = floor((from + gone).min(text.len())).max(from);
                format!("{}{new}{}", &text[..from], &text[to..])
            }
            Self::Lines { at, gone, new } => {
                let from = at % (lines.len() + 1);
                let to = (from + gone).min(lines.len());
                lines.splice(from..to, [new]);
                lines.concat()
            }
            Self::Move { from, to } => {
                let line = lines.remove(from % lines.len());
                lines.insert(to % (lines.len() + 1), line);
                lines.concat()
            }
            Self::Undo => text.to_owned(),
        }
    }
}

fn change() -> impl Strategy<Value = Change> {
    let bits = select(vec![
        "", "x", "1", "'", "\"", "{", "}", "[", "]", "|", ">", "&a ", "*a", "!t ", "# ", ":", "- ",
        "\r", "\t", "\n", " ", "${PORT}", "${NONE}", "é", "~",
    ]);
    let lines = select(vec![
        "",
        "  - { name: new, match: /new/*, to: a }\n",
        "  - { name: newer, match: /newer/*, to: b, policies: bold }\n",
        "  - { name: lost, match: /lost/*, to: nobody }\n",
        "  - { name: r3, match: /three/*, to: b }\n",
        "  - name: long\n    match: /long/*\n    to: a\n",
        "    - { name: deeper, match: /deeper, to: a }\n",
        "- { name: flat, match: /flat, to: a }\n",
        "  - |\n",
        "    more: text\n",
        "  - 'open\n",
        "routes:\n",
        "services:\n",
        "consumers:\n",
        "consumers: { one: { api_keys: one-key-0123456789 } }\n",
        "  c7: { groups: [other] }\n",
        "  s7: { endpoints: '127.0.0.1:9' }\n",
        "policies: { patient: { timeout: 30s } }\n",
        "services: { a: { endpoints: '127.0.0.1:82' }, c: { endpoints: '127.0.0.1:84' } }\n",
        "listeners: { web: { address: '127.0.0.1:80', protocol: tcp, to: a } }\n",
        "# a comment\n",
        "---\n",
        "...\n",
        "%YAML 1.2\n",
        "\n",
    ]);
    prop_oneof![
        (any::<usize>(), 0usize..6, bits).prop_map(|(at, gone, new)| Change::Bytes {
            at,
            gone,
            new
        }),
        (any::<usize>(), 0usize..3, lines).prop_map(|(at, gone, new)| Change::Lines {
            at,
            gone,
            new
        }),
        (any::<usize>(), any::<usize>()).prop_map(|(from, to)| Change::Move { from, to }),
        Just(Change::Undo),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn a_reload_comes_to_what_a_start_would(
        base in select(vec![ROUTES, FULL, &**SECTIONS]),
        changes in prop::collection::vec((change(), any::<bool>()), 1..8),
    ) {
        let mut loader = Loader::default();
        let mut good = base.to_owned();
        told(&mut loader, base);
        for (change, and_back) in changes {
            let text = change.of(&good);
            let expected = told(&mut Loader::default(), &text);
            prop_assert_eq!(told(&mut loader, &text), expected, "{}", text);
            // Most changes break something; more is learnt from a good text.
            if and_back && load(&text).is_ok() {
                good = text;
            }
        }
    }
}

fn loaded(loader: &mut Loader, text: &str) -> Vec<Arc<weft_proxy::plan::Route>> {
    match loader.load_text(Path::new("weft.yaml"), text, &variables) {
        Ok(loaded) => loaded.plan.proxy.routes,
        Err(refused) => panic!("{refused}"),
    }
}

/// Which routes are the same ones as before.
fn stayed(
    before: &[Arc<weft_proxy::plan::Route>],
    after: &[Arc<weft_proxy::plan::Route>],
) -> String {
    let same = |route: &&Arc<_>| before.iter().any(|before| Arc::ptr_eq(before, route));
    after.iter().filter(same).map(|route| format!("{} ", route.name)).collect()
}

#[test]
fn routes_around_a_change_are_not_read_again() {
    for (change, expect) in [
        // The last one has nothing behind it, and a variable may change: both are read again.
        (("", ""), "r0 r1 r2 r3 r4 r6 r7 r8 "),
        (("  - { name: r2", "  - { name: r2"), "r0 r1 r2 r3 r4 r6 r7 r8 "),
        (("/r2/*", "/two/*"), "r0 r1 r3 r4 r6 r7 r8 "),
        (("name: r0,", "name: zero,"), "r1 r2 r3 r4 r6 r7 r8 "),
        (
            ("  - { name: r9", "  - { name: new, match: /new, to: a }\n  - { name: r9"),
            "r0 r1 r2 r3 r4 r6 r7 r8 ",
        ),
        (("  - { name: r8, match: /r8/*, to: a }\n", ""), "r0 r1 r2 r3 r4 r6 r7 "),
        (("'127.0.0.1:82'", "'127.0.0.1:182'"), "r0 r1 r2 r3 r4 r6 r7 r8 "),
        (("20s", "21s"), ""),
    ] {
        let mut loader = Loader::default();
        let before = loaded(&mut loader, ROUTES);
        let after = loaded(&mut loader, &ROUTES.replacen(change.0, change.1, 1));
        assert_eq!(stayed(&before, &after), expect, "{change:?}");
        let again = loaded(&mut loader, &ROUTES.replacen(change.0, change.1, 1));
        assert!(again.iter().map(|route| &route.name).eq(after.iter().map(|route| &route.name)));
    }
}

#[test]
fn what_stands_in_sections_around_a_change_is_told_at_its_new_place() {
    let mut loader = Loader::default();
    told(&mut loader, &SECTIONS);
    for (from, to) in [
        ("match: /r0/*", "match: /other/*"),
        ("  - { name: r1,", "  - { name: new, match: /new, to: s7 }\n  - { name: r1,"),
        ("# consumers\n", ""),
        ("to: s1", "to: nobody"),
        ("c79:", "c7:"),
        ("c79:", "c80:"),
        ("listeners:", "consumers: {}\nlisteners:"),
        ("access_log: off", "access_log: [off"),
        ("telemetry:", "  s1: { endpoints: '127.0.0.1:9' }\ntelemetry:"),
    ] {
        let text = SECTIONS.replacen(from, to, 1);
        assert_ne!(text, **SECTIONS, "{from}");
        let expected = told(&mut Loader::default(), &text);
        assert_eq!(told(&mut loader, &text), expected, "{from} → {to}");
        told(&mut loader, &SECTIONS);
    }
}

#[test]
fn a_refused_text_forgets_nothing() {
    let mut loader = Loader::default();
    let before = loaded(&mut loader, ROUTES);
    assert!(loader.load_text(Path::new("weft.yaml"), "routes: [", &variables).is_err());
    let after = loaded(&mut loader, ROUTES);
    assert_eq!(stayed(&before, &after), "r0 r1 r2 r3 r4 r6 r7 r8 ");
}

#[test]
fn a_route_that_stayed_needs_what_it_publishes_to() {
    let text = "admin: off
listeners: { web: { address: '127.0.0.1:80' } }
topics: { orders: {}, other: {} }
queues: { tasks: {} }
routes:
  - { name: first, match: /first, respond: 204 }
  - { name: a, match: /a, publish: orders }
  - { name: b, match: /b, publish: { queue: tasks } }
  - { name: last, match: /last, respond: 204 }
";
    for (gone, line, said) in [
        ("orders: {}, ", 7, "there is no topic `orders`"),
        ("tasks: {}", 8, "there is no queue `tasks`"),
    ] {
        let mut loader = Loader::default();
        loaded(&mut loader, text);
        let less = text.replace(gone, "");
        let refused = loader.load_text(Path::new("weft.yaml"), &less, &variables).unwrap_err();
        let told: Vec<_> = refused.problems.iter().map(|one| &*one.message).collect();
        assert_eq!(told, [said]);
        let position = refused.sources.position(refused.problems[0].place.unwrap()).unwrap();
        assert_eq!(position.line, line, "{position}");
        // What is wrong with a start is told in the same words.
        assert_eq!(load(&less).unwrap_err().problems, refused.problems);
        loaded(&mut loader, text);
    }
}
