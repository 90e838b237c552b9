//! Finds the operation of a method and a path.

use std::borrow::Cow;

use smallvec::SmallVec;
use weft_kernel::{Error, Reason, Result};
use weft_wire::Method;

use crate::{Operation, Response, Row, query, schema::Shape};

/// What a path template holds in place of a name.
const NAME: u8 = b'{';
/// The most names in a path.
const NAMES_MAX: usize = 3;
/// The most segments of a path.
const SEGMENTS_MAX: usize = 8;

/// What a path names, in order, escapes undone.
#[derive(Debug, Default)]
pub struct Names<'a>([Cow<'a, str>; NAMES_MAX]);

impl Names<'_> {
    /// The `index`-th name; empty if the template has fewer.
    pub fn at(&self, index: usize) -> &str {
        self.0.get(index).map_or("", |name| name)
    }
}

/// What stands for an operation in a list.
pub trait Offered {
    /// The operation.
    fn operation(&self) -> &'static Operation;
}

impl<C> Offered for &'static Row<C> {
    fn operation(&self) -> &'static Operation {
        &self.operation
    }
}

/// What was found for a path.
#[derive(Debug)]
pub enum Matched<'a, T> {
    /// The operation and what its path names.
    One(T, Names<'a>),
    /// The path has other methods, as `Allow` lists them.
    OtherMethods(String),
    /// No operation has this path.
    Nothing,
}

/// Looks an operation up. HEAD is answered by GET.
///
/// # Errors
/// If what the path names is not what it may be.
pub fn find<'a, T: Offered>(
    list: impl IntoIterator<Item = T>,
    method: &Method,
    path: &'a str,
) -> Result<Matched<'a, T>> {
    let method = if *method == Method::Head { "GET" } else { method.as_str() };
    let mut given: SmallVec<[&str; SEGMENTS_MAX]> = SmallVec::new();
    for segment in path.strip_prefix('/').unwrap_or(path).split('/') {
        if given.len() == SEGMENTS_MAX {
            return Ok(Matched::Nothing);
        }
        given.push(segment);
    }
    let mut allow = String::new();
    for one in list {
        let operation = one.operation();
        if !fits(operation.path, &given) {
            continue;
        }
        if operation.method == method {
            let names = names(operation, &given)?;
            return Ok(Matched::One(one, names));
        }
        if !allow.is_empty() {
            allow.push_str(", ");
        }
        allow.push_str(operation.method);
    }
    Ok(if allow.is_empty() { Matched::Nothing } else { Matched::OtherMethods(allow) })
}

/// Looks an operation up, or gives what is to be answered without one.
///
/// # Errors
/// 404, 405 with `Allow`, or 400.
pub fn route<'a, T: Offered>(
    list: impl IntoIterator<Item = T>,
    method: &Method,
    path: &'a str,
) -> Result<(T, Names<'a>), Box<Response>> {
    match find(list, method, path) {
        Ok(Matched::One(one, names)) => Ok((one, names)),
        Ok(Matched::OtherMethods(allow)) => Err(Box::new(Response::not_allowed(&allow))),
        Ok(Matched::Nothing) => Err(Box::new(Response::problem(&nothing()))),
        Err(error) => Err(Box::new(Response::problem(&error))),
    }
}

/// That a path is nobody's.
pub fn nothing() -> Error {
    Error::new(
        Reason::NoRoute,
        "no operation has this path: /v1/openapi.json of the admin API lists them",
    )
}

pub(crate) fn segments(template: &'static str) -> impl Iterator<Item = &'static str> {
    template.strip_prefix('/').unwrap_or(template).split('/')
}

/// What a segment of a template names, if it is no text of its own.
pub(crate) fn place(segment: &'static str) -> Option<&'static str> {
    if segment.as_bytes().first() != Some(&NAME) {
        return None;
    }
    segment.get(1..)?.strip_suffix('}')
}

fn fits(template: &'static str, given: &[&str]) -> bool {
    let mut given = given.iter();
    for segment in segments(template) {
        match given.next() {
            Some(found) if *found == segment => {}
            Some(found) if place(segment).is_some() && !found.is_empty() => {}
            _ => return false,
        }
    }
    given.next().is_none()
}

fn names<'a>(operation: &'static Operation, given: &[&'a str]) -> Result<Names<'a>> {
    let mut names = Names::default();
    let mut slots = names.0.iter_mut();
    for (segment, found) in segments(operation.path).zip(given) {
        if let Some(place) = place(segment) {
            let name = query::decode(found, false)?;
            // A number that is none names nothing, which the operation says best.
            if let Shape::Text(kind) = operation.place(place)
                && !(kind.fits)(&name)
            {
                let say = format!("`{place}` in the path is {}", kind.what);
                return Err(Error::new(Reason::MalformedRequest, say));
            }
            if let Some(slot) = slots.next() {
                *slot = name;
            }
        }
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Permission, get, schema::Parameter};

    const fn row(method: &'static str, path: &'static str) -> Row<()> {
        let row =
            get("", path, "", Permission::Read, |_| Box::pin(async { Ok(Response::empty(200)) }));
        Row { operation: Operation { method, places: POSITION, ..row.operation }, ..row }
    }

    const POSITION: &[Parameter] = &[Parameter {
        name: "position",
        about: "",
        shape: Shape::Int(0, u64::MAX),
        required: true,
    }];

    static TABLE: &[Row<()>] = &[
        row("GET", "/v1/topics"),
        row("GET", "/v1/topics/{topic}"),
        row("PUT", "/v1/topics/{topic}"),
        row("POST", "/v1/queues/{queue}/messages"),
        row("GET", "/v1/queues/{queue}/messages/{position}"),
    ];

    fn check(method: &str, path: &str, expected: &str) {
        let found = match find(TABLE, &Method::of(method), path) {
            Err(error) => error.reason().word().to_owned(),
            Ok(Matched::Nothing) => "nothing".to_owned(),
            Ok(Matched::OtherMethods(allow)) => format!("allow {allow}"),
            Ok(Matched::One(row, names)) => {
                let Operation { method, path, .. } = &row.operation;
                format!("{method} {path} {} {}", names.at(0), names.at(1)).trim().to_owned()
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
        check("GET", "/v1/topics/a%0Ab", "malformed_request");
        check("DELETE", "/v1/topics/a", "allow GET, PUT");
        check("POST", "/v1/topics", "allow GET");
        check("GET", "/v1/topics/", "nothing");
        check("GET", "/v1/topics//", "nothing");
        check("GET", "/v1", "nothing");
        check("GET", "", "nothing");
        check("GET", "/v1/topics/a/b/c/d/e/f/g/h/i/j", "nothing");
    }
}
