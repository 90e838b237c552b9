//! Finds the operation of a method and a path.

use std::borrow::Cow;

use smallvec::SmallVec;
use weft_kernel::Result;
use weft_wire::Method;

use crate::query;

/// What a path template holds in place of a name.
const NAME: u8 = b'{';
/// The most segments of a path.
const SEGMENTS_MAX: usize = 8;

/// The names in a path, in order, escapes undone.
#[derive(Debug, Default)]
pub(crate) struct Names<'a>(SmallVec<[Cow<'a, str>; 2]>);

impl Names<'_> {
    /// The `index`-th name; empty if the template has fewer.
    pub(crate) fn at(&self, index: usize) -> &str {
        self.0.get(index).map_or("", |name| name)
    }
}

/// What was found for a path.
#[derive(Debug)]
pub(crate) enum Found<'a, T: 'static> {
    /// The operation and the names in its path.
    One(&'static T, Names<'a>),
    /// The path has other methods, as `Allow` lists them.
    OtherMethods(String),
    /// No operation has this path.
    Nothing,
}

/// A line of a table of operations.
pub(crate) trait Line {
    /// The method.
    fn method(&self) -> &'static str;
    /// The path, with `{name}` in place of names.
    fn path(&self) -> &'static str;
}

/// Looks an operation up. HEAD is answered by GET.
///
/// # Errors
/// If a name in the path is no UTF-8.
pub(crate) fn find<'a, T: Line>(
    table: &'static [T],
    method: &Method,
    path: &'a str,
) -> Result<Found<'a, T>> {
    let method = if *method == Method::Head { "GET" } else { method.as_str() };
    let mut given: SmallVec<[&str; SEGMENTS_MAX]> = SmallVec::new();
    for segment in path.strip_prefix('/').unwrap_or(path).split('/') {
        if given.len() == SEGMENTS_MAX {
            return Ok(Found::Nothing);
        }
        given.push(segment);
    }
    let mut allow = String::new();
    for line in table {
        if !fits(line.path(), &given) {
            continue;
        }
        if line.method() == method {
            return Ok(Found::One(line, names(line.path(), &given)?));
        }
        if !allow.is_empty() {
            allow.push_str(", ");
        }
        allow.push_str(line.method());
    }
    Ok(if allow.is_empty() { Found::Nothing } else { Found::OtherMethods(allow) })
}

fn segments(template: &'static str) -> impl Iterator<Item = &'static str> {
    template.strip_prefix('/').unwrap_or(template).split('/')
}

fn is_name(segment: &str) -> bool {
    segment.as_bytes().first() == Some(&NAME)
}

fn fits(template: &'static str, given: &[&str]) -> bool {
    let mut given = given.iter();
    for segment in segments(template) {
        match given.next() {
            Some(found) if *found == segment => {}
            Some(found) if is_name(segment) && !found.is_empty() => {}
            _ => return false,
        }
    }
    given.next().is_none()
}

fn names<'a>(template: &'static str, given: &[&'a str]) -> Result<Names<'a>> {
    let mut names = Names::default();
    for (segment, found) in segments(template).zip(given) {
        if is_name(segment) {
            names.0.push(query::decode(found, false)?);
        }
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct Row(&'static str, &'static str);

    impl Line for Row {
        fn method(&self) -> &'static str {
            self.0
        }

        fn path(&self) -> &'static str {
            self.1
        }
    }

    static TABLE: &[Row] = &[
        Row("GET", "/v1/topics"),
        Row("GET", "/v1/topics/{topic}"),
        Row("PUT", "/v1/topics/{topic}"),
        Row("POST", "/v1/queues/{queue}/messages"),
        Row("GET", "/v1/queues/{queue}/messages/{position}"),
    ];

    fn check(method: &str, path: &str, expected: &str) {
        let found = match find(TABLE, &Method::of(method), path) {
            Err(error) => error.reason().word().to_owned(),
            Ok(Found::Nothing) => "nothing".to_owned(),
            Ok(Found::OtherMethods(allow)) => format!("allow {allow}"),
            Ok(Found::One(row, names)) => {
                format!("{} {} {} {}", row.0, row.1, names.at(0), names.at(1)).trim().to_owned()
            }
        };
        assert_eq!(found, expected, "{method} {path}");
    }

    #[test]
    fn operations_are_found() {
        check("GET", "/v1/topics", "GET /v1/topics");
        check("HEAD", "/v1/topics", "GET /v1/topics");
        check("PUT", "/v1/topics/a.b", "PUT /v1/topics/{topic} a.b");
        check("GET", "/v1/topics/a%2Fb%20c", "GET /v1/topics/{topic} a/b c");
        check("GET", "/v1/topics/a+b", "GET /v1/topics/{topic} a+b");
        check("GET", "/v1/topics/%ff", "malformed_request");
        check("GET", "/v1/queues/a/messages/7", "GET /v1/queues/{queue}/messages/{position} a 7");
        check("DELETE", "/v1/topics/a", "allow GET, PUT");
        check("POST", "/v1/topics", "allow GET");
        check("GET", "/v1/topics/", "nothing");
        check("GET", "/v1/topics//", "nothing");
        check("GET", "/v1", "nothing");
        check("GET", "", "nothing");
        check("GET", "/v1/topics/a/b/c/d/e/f/g/h/i/j", "nothing");
    }
}
