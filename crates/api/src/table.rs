//! The whole table of a node: the lists of its components, one after the other.

use std::sync::Arc;

use weft_kernel::{Error, Reason, Result};
use weft_wire::Method;

use crate::{
    Names, Operation, Request, Response, Row,
    router::{self, Offered},
};

/// The rows of one component, and what they operate, if it is there.
pub struct Part(Box<dyn Rows>);

/// A list of rows, whatever it is that they operate.
trait Rows: Send + Sync {
    fn operations(&self) -> Vec<&'static Operation>;
    fn is_there(&self) -> bool;
    fn answer<'a>(
        &'a self,
        row: usize,
        names: Names<'a>,
        request: &'a Request,
    ) -> std::pin::Pin<Box<dyn Future<Output = Response> + Send + 'a>>;
}

struct Of<C: 'static> {
    rows: &'static [Row<C>],
    state: Result<Arc<C>, &'static str>,
}

impl<C: Send + Sync> Rows for Of<C> {
    fn operations(&self) -> Vec<&'static Operation> {
        self.rows.iter().map(|row| &row.operation).collect()
    }

    fn is_there(&self) -> bool {
        self.state.is_ok()
    }

    fn answer<'a>(
        &'a self,
        row: usize,
        names: Names<'a>,
        request: &'a Request,
    ) -> std::pin::Pin<Box<dyn Future<Output = Response> + Send + 'a>> {
        Box::pin(async move {
            match (&self.state, self.rows.get(row)) {
                (Ok(state), Some(row)) => row.answer(state, names, request).await,
                (Err(absent), _) => {
                    let error = Error::new(Reason::NotFound, *absent);
                    Response::problem(&error).headless(&request.method)
                }
                (Ok(_), None) => Response::problem(&router::nothing()),
            }
        })
    }
}

impl Part {
    /// Rows that operate a thing.
    pub fn new<C: Send + Sync>(rows: &'static [Row<C>], state: C) -> Self {
        Self(Box::new(Of { rows, state: Ok(Arc::new(state)) }))
    }

    /// Rows of what this node does not have, with why: they are routed, answered with 404 and not described.
    pub fn absent<C: Send + Sync>(rows: &'static [Row<C>], why: &'static str) -> Self {
        Self(Box::new(Of { rows, state: Err(why) }))
    }
}

/// Everything that a node offers.
pub struct Table {
    parts: Vec<Part>,
    entries: Vec<Entry>,
}

#[derive(Clone, Copy)]
struct Entry {
    operation: &'static Operation,
    part: usize,
    row: usize,
}

impl Offered for &Entry {
    fn operation(&self) -> &'static Operation {
        self.operation
    }
}

/// An operation that was found for a request.
pub struct Found<'a> {
    part: &'a Part,
    row: usize,
    names: Names<'a>,
    /// The operation.
    pub operation: &'static Operation,
}

impl<'a> Found<'a> {
    /// Answers the request, whose body has been read; whatever goes wrong is told as a problem.
    pub async fn answer<'r>(self, request: &'r Request) -> Response
    where
        'a: 'r,
    {
        self.part.0.answer(self.row, self.names, request).await
    }
}

impl Table {
    /// The table of these parts.
    pub fn new(parts: Vec<Part>) -> Self {
        let mut entries = Vec::new();
        for (part, of) in parts.iter().enumerate() {
            let operations = of.0.operations().into_iter().enumerate();
            entries.extend(operations.map(|(row, operation)| Entry { operation, part, row }));
        }
        Self { parts, entries }
    }

    /// Finds the operation of a request.
    ///
    /// # Errors
    /// The answer if there is none: 404, or 405 with the methods that there are.
    pub fn find<'a>(&'a self, method: &Method, path: &'a str) -> Result<Found<'a>, Box<Response>> {
        let (entry, names) = router::route(&self.entries, method, path)?;
        match self.parts.get(entry.part) {
            Some(part) => Ok(Found { part, row: entry.row, names, operation: entry.operation }),
            None => Err(Box::new(Response::problem(&router::nothing()))),
        }
    }

    /// The operations that are there.
    pub fn operations(&self) -> impl Iterator<Item = &'static Operation> {
        let there = |entry: &&Entry| self.parts.get(entry.part).is_some_and(|of| of.0.is_there());
        self.entries.iter().filter(there).map(|entry| entry.operation)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Permission, get, post};

    static COUNTS: &[Row<u32>] = &[
        get("count", "/v1/count", "The count.", Permission::Read, |ask| {
            Box::pin(async move { Response::json(200, ask.state) })
        }),
        post("add", "/v1/count/{name}", "Adds.", Permission::Manage, |ask| {
            Box::pin(async move { Response::json(200, &ask.names.at(0)) })
        }),
    ];
    static WORDS: &[Row<String>] =
        &[get("word", "/v1/word", "The word.", Permission::Read, |ask| {
            Box::pin(async move { Response::json(200, ask.state) })
        })];

    async fn ask(table: &Table, method: &str, target: &str) -> Response {
        let request = Request::new(Method::of(method), target);
        match table.find(&request.method, &request.path) {
            Ok(found) => found.answer(&request).await,
            Err(refused) => *refused,
        }
    }

    #[tokio::test]
    async fn each_part_answers_its_own_rows() {
        let there = Table::new(vec![Part::new(COUNTS, 7), Part::new(WORDS, "yes".to_owned())]);
        let lacks = Table::new(vec![Part::new(COUNTS, 7), Part::absent(WORDS, "there is none")]);
        for (table, method, target, status, body) in [
            (&there, "GET", "/v1/count", 200, "7"),
            (&there, "GET", "/v1/word", 200, "\"yes\""),
            (&there, "POST", "/v1/count/a%2Fb", 200, "\"a/b\""),
            (&there, "HEAD", "/v1/word", 200, ""),
            (&there, "GET", "/v1/count?surprise=1", 400, "surprise"),
            (&there, "DELETE", "/v1/count", 405, "GET"),
            (&there, "GET", "/v1/none", 404, "openapi"),
            (&lacks, "GET", "/v1/word", 404, "there is none"),
            (&lacks, "GET", "/v1/count", 200, "7"),
        ] {
            let response = ask(table, method, target).await;
            assert_eq!(response.status, status, "{method} {target}");
            assert_eq!(response.fields.named("allow"), (status == 405).then_some(&b"GET"[..]));
            let text = response.collect().await.unwrap();
            let text = std::str::from_utf8(&text).unwrap();
            assert!(text.contains(body), "{method} {target}: {text}");
        }
        assert_eq!(there.operations().count(), 3);
        assert_eq!(lacks.operations().count(), 2);
    }
}
