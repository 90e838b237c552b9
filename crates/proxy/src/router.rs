//! The route table of one listener: which route a request belongs to.
//!
//! [`Table::compile`] turns the matches of a plan into hash tables and one tree; [`Table::find`] then
//! costs a lookup for the host and one for each path segment, however many routes there are. What wins
//! is what the Kubernetes Gateway API says, and never depends on how the table is built:
//!
//! 1. the host: an exact one, then the longest wildcard, then a match without hosts;
//! 2. the path: an exact one (also a template without captures), then prefix or template with the most
//!    literal characters (slashes before literal segments counted), then more literal segments, then more
//!    captured segments, then a template before a prefix, then a regular expression, and last what fits
//!    every path: no path at all, the prefix `/`, the template `/{*rest}`;
//! 3. a match with methods before one without;
//! 4. the most conditions on header fields and the client's certificate, then the most query conditions;
//! 5. the earlier one in the configuration, which also decides between regular expressions.
//!
//! The asterisk of `OPTIONS *` fits nothing but a match without a path, or with the prefix `/`.
//!
//! A less specific match still gets what a more specific one turns down: a request for which the routes
//! of its exact host have no path goes on to those of the wildcard.
//!
//! Invariants: finding never allocates unless several expressions with one beginning, more than sixteen
//! nested prefixes or escaped query parameters are in play; its time is bounded by the configuration and
//! linear in the request. Deliberately absent: normalising paths and hosts, which is done once before.
//!
//! Reading order: `paths`, `regexes`, `hosts`, `fields`, `table`; then what people ask of a table:
//! [`explain`] and [`shadow`].

mod edges;
pub mod explain;
mod fields;
mod hosts;
mod paths;
mod regexes;
pub mod shadow;
mod table;
#[cfg(test)]
mod tests;

use std::ops::Range;

use smallvec::SmallVec;
use weft_identity::peer::Names;
use weft_kernel::Name;
use weft_wire::Fields;

pub use self::{
    explain::{Candidate, Explanation, Lost},
    shadow::shadowed,
    table::Table,
};

/// No node, bucket or child.
const NONE: u32 = u32::MAX;

/// What is asked of a table.
#[derive(Clone, Copy, Debug)]
pub struct Lookup<'a> {
    /// The host in lower case, without a port; empty if the request has none.
    pub host: &'a str,
    /// The method.
    pub method: &'a str,
    /// The normalised path, without the query.
    pub path: &'a str,
    /// The query, without its question mark.
    pub query: Option<&'a str>,
    /// The header fields.
    pub fields: &'a Fields,
    /// The names in the client's certificate, for a table that [asks](Table::asks_certificate) for them.
    pub certificate: Option<&'a Names>,
}

/// A route that fits, and what of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    /// The index that the route was compiled with.
    pub route: u32,
    /// Which of its matches fits; 0 for a route without any.
    pub match_index: u32,
    /// The length of the path that a prefix rewrite replaces: the matched prefix without a closing
    /// slash, nothing for a match without a path, and the whole path for the other kinds.
    pub prefix_len: u32,
}

/// Why nothing fits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Missing {
    /// There is no such thing.
    NotFound,
    /// There is, but not for this method.
    MethodNotAllowed {
        /// The methods that it is there for: the value of the `Allow` field.
        allow: String,
    },
}

/// What the captures of a template took, as places in the path; kept by the caller from one request to
/// the next, and filled by [`Table::find`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Captures(SmallVec<[(u32, u32); 8]>);

impl Captures {
    /// What the capture at `index`, counted from the left, took of `path`.
    pub fn get<'a>(&self, index: usize, path: &'a str) -> Option<&'a str> {
        let (start, end) = *self.0.get(index)?;
        path.get(start as usize..end as usize)
    }

    /// How many captures there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn clear(&mut self) {
        self.0.clear();
    }

    fn push(&mut self, range: Range<usize>) {
        self.0.push((range.start as u32, range.end as u32));
    }
}

/// A route that cannot be compiled.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("route {route}: {what}")]
pub struct CompileError {
    /// The route.
    pub route: Name,
    /// What is wrong with it.
    pub what: String,
}

/// What is wrong with a path in a plan that stands for itself.
pub(crate) use self::paths::check_literal as check_path;
/// What is wrong with a regular expression, in one line.
pub(crate) use self::regexes::describe;

/// What is wrong with a host in a plan that stands for itself.
pub(crate) fn check_host(host: &str) -> Result<(), String> {
    hosts::check(&crate::plan::Host::Exact(host.to_owned()))
}

/// The names of the captures of a path, from the left.
pub(crate) fn template_names(path: &crate::plan::Path) -> Vec<String> {
    match path {
        crate::plan::Path::Template(text) => {
            paths::Template::parse(text).map(|template| template.names).unwrap_or_default()
        }
        _ => Vec::new(),
    }
}
