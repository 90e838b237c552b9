//! The row of the table: what an operation is, and the function that answers it.

use std::{fmt, pin::Pin};

use schemars::{JsonSchema, Schema, SchemaGenerator};
use weft_kernel::{Error, Reason, Result};

use crate::{
    Names, Permission, Query, Request, Response,
    body::Body,
    response::JSON,
    schema::{Parameter, Shape, text},
};

/// The largest body of JSON, unless a row says another.
const JSON_BYTES_MAX: usize = 1 << 20;

/// An operation.
pub struct Operation {
    /// Its name, which no other operation has.
    pub id: &'static str,
    /// Its method; GET answers HEAD too.
    pub method: &'static str,
    /// Its path, with `{name}` in place of what is named.
    pub path: &'static str,
    /// What it does, in a sentence.
    pub about: &'static str,
    /// The permission that it needs; without one it is open to all.
    pub permission: Option<Permission>,
    /// Those places in the path that are not plain names.
    pub places: &'static [Parameter],
    /// The parameters of its query.
    pub query: &'static [Parameter],
    /// The media types of the body it takes, each with its shape; none if it takes no body.
    pub takes: &'static [(&'static str, &'static Shape)],
    /// The answers that went well.
    pub gives: &'static [Gives],
    /// The reasons for which it may refuse, beside those that any operation has.
    pub reasons: &'static [Reason],
    /// The largest body that it takes, in bytes.
    pub body_bytes_max: usize,
    /// Whether it is offered on the admin API alone, and on no route.
    pub admin_only: bool,
    /// Whether those ask for it again and again who watch over a node: it needs no place among the requests
    /// that are under way, and whatever its query says is passed over.
    pub probe: bool,
    /// Whether it is of somebody else's API: what its query says beyond its parameters is passed over, as clients of
    /// that API are used to.
    pub foreign: bool,
    /// The noun that it is about and the verb of the command line that asks for it, if one does.
    pub verb: Option<(&'static Noun, Verb)>,
}

/// An answer that went well.
#[derive(Clone, Copy)]
pub struct Gives {
    /// The status.
    pub status: u16,
    /// The media type, if there is a body.
    pub media: Option<&'static str>,
    /// The schema of the body, if it is known.
    pub schema: Option<fn(&mut SchemaGenerator) -> Schema>,
}

/// A kind of thing, as people call it.
#[derive(Debug, PartialEq, Eq)]
pub struct Noun {
    /// One of it: the word of the command line.
    pub name: &'static str,
    /// What it is, behind its plural: `messages that are each handled once`.
    pub about: &'static str,
}

impl Noun {
    /// What it is, as help says it: `Queues: messages that are each handled once`.
    pub fn title(&self) -> String {
        let (first, rest) = self.name.split_at_checked(1).unwrap_or_default();
        format!("{}{rest}s: {}", first.to_uppercase(), self.about)
    }
}

/// What the command line does by an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// Lists all things of a kind.
    List {
        /// What is listed, as help says it.
        help: &'static str,
        /// The member of the answer that is the list; empty if the answer itself is.
        member: &'static str,
        /// Each column with the path of the member that it shows; empty where the command has a way of its
        /// own to show them.
        columns: &'static [(&'static str, &'static str)],
    },
    /// Shows one.
    Show {
        /// What is shown, as help says it.
        help: &'static str,
    },
    /// Declares one.
    Create,
    /// Deletes one.
    Delete {
        /// What is deleted with it, as help says it.
        help: &'static str,
        /// Whether its name must be said twice.
        confirm: bool,
        /// What has become of it, in a word.
        done: &'static str,
    },
}

impl Verb {
    /// The word of the command line.
    pub const fn word(&self) -> &'static str {
        match self {
            Self::List { .. } => "list",
            Self::Show { .. } => "show",
            Self::Create => "create",
            Self::Delete { .. } => "delete",
        }
    }
}

/// What becomes of a request.
pub type Answer<'a> = Pin<Box<dyn Future<Output = Result<Response>> + Send + 'a>>;

/// The function that answers an operation for a `C`.
pub type Handler<C> = for<'a> fn(Ask<'a, C>) -> Answer<'a>;

/// A request on its way through an operation.
#[derive(Debug)]
pub struct Ask<'a, C> {
    /// What is operated.
    pub state: &'a C,
    /// What the path names.
    pub names: Names<'a>,
    /// The request.
    pub request: &'a Request,
}

impl<'a, C> Ask<'a, C> {
    /// The query, of which parameters are taken.
    ///
    /// # Errors
    /// [`Reason::MalformedRequest`].
    pub fn query(&self) -> Result<Query<'a>> {
        Query::parse(&self.request.query)
    }

    /// The body.
    ///
    /// # Errors
    /// [`Reason::MalformedRequest`] that says where it is wrong.
    pub fn body<T: Body>(&self) -> Result<T> {
        crate::body::read(&self.request.body)
    }
}

/// An operation and what answers it.
pub struct Row<C: 'static> {
    /// The operation.
    pub operation: Operation,
    /// What answers it.
    pub handler: Handler<C>,
}

impl<C> fmt::Debug for Row<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.operation.fmt(f)
    }
}

impl fmt::Debug for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.method, self.path)
    }
}

impl fmt::Debug for Gives {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.status, self.media.unwrap_or("nothing"))
    }
}

impl Gives {
    /// A status without a body.
    pub const fn empty(status: u16) -> Self {
        Self { status, media: None, schema: None }
    }

    /// A status with a body of a media type, of which nothing else is known.
    pub const fn media(status: u16, media: &'static str) -> Self {
        Self { status, media: Some(media), schema: None }
    }

    /// A status with a value as JSON.
    pub const fn json<T: JsonSchema>(status: u16) -> Self {
        Self { status, media: Some(JSON), schema: Some(SchemaGenerator::subschema_for::<T>) }
    }
}

/// A name in a path, where the row says nothing else.
static PLACE: Shape = Shape::Text(&text::NAME);

impl Operation {
    /// What a place of the path is.
    pub fn place(&self, name: &str) -> &'static Shape {
        let of = self.places.iter().find(|place| place.name == name);
        of.map_or(&PLACE, |place| &place.shape)
    }

    /// The places of the path, in order.
    pub fn place_names(&self) -> impl Iterator<Item = &'static str> {
        crate::router::segments(self.path).filter_map(crate::router::place)
    }

    /// Refuses a body that is larger than it takes.
    ///
    /// # Errors
    /// [`Reason::BodyTooLarge`].
    pub fn check_body(&self, bytes: usize) -> Result<()> {
        if bytes <= self.body_bytes_max {
            return Ok(());
        }
        Err(Error::new(
            Reason::BodyTooLarge,
            match self.body_bytes_max {
                0 => "this operation takes no body".to_owned(),
                most => format!("the body is larger than {most} bytes"),
            },
        ))
    }

    /// Refuses a parameter of the query that it does not have.
    ///
    /// # Errors
    /// [`Reason::MalformedRequest`].
    pub fn check_query(&self, query: &str) -> Result<()> {
        if self.probe || self.foreign || query.is_empty() {
            return Ok(());
        }
        let mut query = Query::parse(query)?;
        for parameter in self.query {
            query.take(parameter.name);
        }
        query.done()
    }
}

impl<C> Row<C> {
    const fn new(
        method: &'static str,
        id: &'static str,
        path: &'static str,
        about: &'static str,
        permission: Permission,
        handler: Handler<C>,
    ) -> Self {
        let operation = Operation {
            id,
            method,
            path,
            about,
            permission: Some(permission),
            places: &[],
            query: &[],
            takes: &[],
            gives: &[],
            reasons: &[],
            body_bytes_max: 0,
            admin_only: false,
            probe: false,
            foreign: false,
            verb: None,
        };
        Self { operation, handler }
    }

    /// The same with parameters of the query.
    #[must_use]
    pub const fn query(self, query: &'static [Parameter]) -> Self {
        Self { operation: Operation { query, ..self.operation }, ..self }
    }

    /// The same with places in the path that are not plain names.
    #[must_use]
    pub const fn places(self, places: &'static [Parameter]) -> Self {
        Self { operation: Operation { places, ..self.operation }, ..self }
    }

    /// The same with a JSON body.
    #[must_use]
    pub const fn takes<T: Body>(self) -> Self {
        let takes = const { &[(JSON, T::SHAPE)] };
        let operation = Operation { takes, body_bytes_max: JSON_BYTES_MAX, ..self.operation };
        Self { operation, ..self }
    }

    /// The same with a body of these media types and shapes, and at most this large.
    #[must_use]
    pub const fn takes_media(
        self,
        takes: &'static [(&'static str, &'static Shape)],
        body_bytes_max: usize,
    ) -> Self {
        Self { operation: Operation { takes, body_bytes_max, ..self.operation }, ..self }
    }

    /// The same with answers.
    #[must_use]
    pub const fn gives(self, gives: &'static [Gives]) -> Self {
        Self { operation: Operation { gives, ..self.operation }, ..self }
    }

    /// The same with a value as JSON for an answer.
    #[must_use]
    pub const fn shows<T: JsonSchema>(self) -> Self {
        self.gives(const { &[Gives::json::<T>(200)] })
    }

    /// The same with reasons for which it may refuse.
    #[must_use]
    pub const fn refuses(self, reasons: &'static [Reason]) -> Self {
        Self { operation: Operation { reasons, ..self.operation }, ..self }
    }

    /// The same with a verb of the command line.
    #[must_use]
    pub const fn verb(self, noun: &'static Noun, verb: Verb) -> Self {
        Self { operation: Operation { verb: Some((noun, verb)), ..self.operation }, ..self }
    }

    /// The same on the admin API alone.
    #[must_use]
    pub const fn admin_only(self) -> Self {
        Self { operation: Operation { admin_only: true, ..self.operation }, ..self }
    }

    /// The same for those who watch over a node.
    #[must_use]
    pub const fn probe(self) -> Self {
        Self { operation: Operation { probe: true, ..self.operation }, ..self }
    }

    /// The same of somebody else's API.
    #[must_use]
    pub const fn foreign(self) -> Self {
        Self { operation: Operation { foreign: true, ..self.operation }, ..self }
    }

    /// The same for everybody, whatever they show.
    #[must_use]
    pub const fn open(self) -> Self {
        Self { operation: Operation { permission: None, ..self.operation }, ..self }
    }

    /// Answers a request that was routed here; whatever goes wrong is told as a problem.
    pub async fn answer<'a>(
        &self,
        state: &'a C,
        names: Names<'a>,
        request: &'a Request,
    ) -> Response {
        let checked = self.operation.check_body(request.body.len());
        let answer = match checked.and_then(|()| self.operation.check_query(&request.query)) {
            Ok(()) => (self.handler)(Ask { state, names, request }).await,
            Err(error) => Err(error),
        };
        let response = answer.unwrap_or_else(|error| Response::problem(&error));
        response.headless(&request.method)
    }
}

/// A row that looks at something.
pub const fn get<C>(
    id: &'static str,
    path: &'static str,
    about: &'static str,
    permission: Permission,
    handler: Handler<C>,
) -> Row<C> {
    Row::new("GET", id, path, about, permission, handler)
}

/// A row that declares something.
pub const fn put<C>(
    id: &'static str,
    path: &'static str,
    about: &'static str,
    permission: Permission,
    handler: Handler<C>,
) -> Row<C> {
    Row::new("PUT", id, path, about, permission, handler)
}

/// A row that does something.
pub const fn post<C>(
    id: &'static str,
    path: &'static str,
    about: &'static str,
    permission: Permission,
    handler: Handler<C>,
) -> Row<C> {
    Row::new("POST", id, path, about, permission, handler)
}

/// A row that deletes something.
pub const fn delete<C>(
    id: &'static str,
    path: &'static str,
    about: &'static str,
    permission: Permission,
    handler: Handler<C>,
) -> Row<C> {
    Row::new("DELETE", id, path, about, permission, handler).gives(const { &[Gives::empty(204)] })
}
