//! Routes written in a line each, so that a fuzzer finds its way through them.

use std::sync::Arc;

use weft_proxy::plan::{
    Field, FieldValue, Host, Match, Path, PathRewrite, Respond, Rewrite, Route, Target,
};

/// Most routes of one input.
pub const ROUTES_MAX: usize = 16;

/// A line for each route; what is none is left out.
pub fn routes(text: &str) -> Vec<Route> {
    let lines = text.lines().take(ROUTES_MAX).enumerate();
    lines.filter_map(|(at, line)| Some(route(at, vec![matching(line)?]))).collect()
}

/// A route of these matches that is answered at once.
pub fn route(number: usize, matches: Vec<Match>) -> Route {
    let answer = Respond { status: 204, headers: Vec::new(), body: Arc::from(&b""[..]) };
    Route {
        name: format!("r{number}").parse().expect("a name"),
        listeners: Vec::new(),
        matches,
        policy: Arc::default(),
        rewrite: Rewrite::default(),
        target: Target::Respond(answer),
    }
}

/// Words of a match: `=/exact`, `^/prefix`, `~regex`, `:/template/{id}`, `@host`, `@*.host`, `#METHOD`,
/// `?name`, `?name=value`, `!name=value` (not so), `%header` and `%header=value`.
pub fn matching(line: &str) -> Option<Match> {
    let mut one = Match::default();
    for word in line.split(' ') {
        let mut letters = word.chars();
        let kind = letters.next()?;
        let text = letters.as_str().to_owned();
        match kind {
            '=' => one.path = Path::Exact(text),
            '^' => one.path = Path::Prefix(text),
            '~' => one.path = Path::Regex(text),
            ':' => one.path = Path::Template(text),
            '@' => one.hosts.push(match text.strip_prefix("*.") {
                Some(rest) => Host::Wildcard(rest.to_owned()),
                None => Host::Exact(text),
            }),
            '#' => one.methods.push(text),
            '?' => one.query.push(field(&text, false)),
            '!' => one.query.push(field(&text, true)),
            '%' => one.headers.push(field(&text, false)),
            _ => return None,
        }
    }
    Some(one)
}

fn field(text: &str, invert: bool) -> Field {
    let (name, value) = match text.split_once('=') {
        Some((name, value)) => (name, FieldValue::Exact(value.to_owned())),
        None => (text, FieldValue::Present),
    };
    Field { name: name.to_owned(), value, invert }
}

/// A rewrite: `=/full`, `^/prefix`, `:/template/{id}`, or `~regex replacement`.
pub fn rewriting(line: &str) -> Option<PathRewrite> {
    let mut letters = line.chars();
    let kind = letters.next()?;
    let text = letters.as_str();
    Some(match kind {
        '=' => PathRewrite::Full(text.to_owned()),
        '^' => PathRewrite::Prefix(text.to_owned()),
        ':' => PathRewrite::Template(text.to_owned()),
        '~' => {
            let (pattern, replace) = text.split_once(' ')?;
            PathRewrite::Regex { pattern: pattern.to_owned(), replace: replace.to_owned() }
        }
        _ => return None,
    })
}
