//! Paths: what a plan may say, how specific it is, and the tree that finds what fits.
//!
//! The tree has a node for each distinct sequence of segments. A walk follows the literal edge and the
//! capture of each node, and gathers the buckets it passes; the best is tried first. A request can visit
//! no more nodes than the configuration made, however it is written.

use smallvec::SmallVec;
use weft_wire::path;

use super::{NONE, edges::Edges, regexes::literal_start};
use crate::plan::Path;

/// Longest path, template or expression in a plan, in bytes.
const PATTERN_BYTES_MAX: usize = 4096;

/// A path of a plan, checked.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Pattern {
    /// Every path.
    Any,
    /// This path.
    Exact(String),
    /// This path, which has no closing slash, and all below it.
    Prefix(String),
    /// Segments with captures.
    Template(Template),
    /// This expression.
    Regex(String),
}

/// Segments with captures; at least one.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Template {
    /// A literal segment, or `None` for one that is captured and not empty.
    pub(super) segments: Vec<Option<String>>,
    /// Whether a last capture takes the rest: one or more segments, which may be empty.
    pub(super) rest: bool,
    /// The names of the captures, from the left.
    pub(crate) names: Vec<String>,
}

impl Template {
    /// Reads `/orders/{id}` and `/files/{*rest}`.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let wrong = |what: &str| Err(format!("template `{text}` {what}"));
        let mut template = Self { segments: Vec::new(), rest: false, names: Vec::new() };
        let Some(tail) = text.strip_prefix('/') else { return wrong("must begin with a slash") };
        let mut segments = tail.split('/').peekable();
        while let Some(segment) = segments.next() {
            let Some(capture) = segment.strip_prefix('{').and_then(|s| s.strip_suffix('}')) else {
                if segment.contains(['{', '}']) {
                    return wrong("has a capture that is not a whole segment");
                }
                template.segments.push(Some(segment.to_owned()));
                continue;
            };
            let name = match capture.strip_prefix('*') {
                None => {
                    template.segments.push(None);
                    capture
                }
                Some(_) if segments.peek().is_some() => {
                    return wrong("has segments after the capture of the rest");
                }
                Some(name) => {
                    template.rest = true;
                    name
                }
            };
            let fits = name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
            if name.is_empty() || name.as_bytes()[0].is_ascii_digit() || !fits {
                return wrong("has a capture whose name is not letters, digits and underscores");
            }
            if template.names.iter().any(|other| other == name) {
                return wrong(&format!("captures `{name}` twice"));
            }
            template.names.push(name.to_owned());
        }
        Ok(template)
    }

    /// Tells where each capture lies in a path that fits.
    pub(super) fn capture(&self, path: &str, mut tell: impl FnMut(std::ops::Range<usize>)) {
        let mut at = 1;
        for segment in &self.segments {
            let end = segment_end(path.as_bytes(), at);
            if segment.is_none() {
                tell(at..end);
            }
            at = end + 1;
        }
        if self.rest {
            tell(at.min(path.len())..path.len());
        }
    }

    fn fits(&self, path: &str) -> bool {
        let Some(tail) = path.strip_prefix('/') else { return false };
        let mut segments = tail.split('/');
        for expected in &self.segments {
            let fits = match (expected, segments.next()) {
                (_, None) => false,
                (Some(literal), Some(segment)) => literal == segment,
                (None, Some(segment)) => !segment.is_empty(),
            };
            if !fits {
                return false;
            }
        }
        segments.next().is_some() == self.rest
    }
}

/// The end of the segment that begins at `at`.
fn segment_end(path: &[u8], at: usize) -> usize {
    let tail = path.get(at..).unwrap_or_default();
    at + tail.iter().position(|byte| *byte == b'/').unwrap_or(tail.len())
}

impl Pattern {
    /// Checks a path of a plan.
    pub(super) fn parse(path: &Path) -> Result<Self, String> {
        let (Path::Exact(text) | Path::Prefix(text) | Path::Regex(text) | Path::Template(text)) =
            path
        else {
            return Ok(Self::Any);
        };
        if text.len() > PATTERN_BYTES_MAX {
            return Err(format!("a path must not be longer than {PATTERN_BYTES_MAX} bytes"));
        }
        if matches!(path, Path::Regex(_)) {
            return Ok(Self::Regex(text.clone()));
        }
        check_literal(text)?;
        Ok(match path {
            Path::Prefix(_) => match text.strip_suffix('/').unwrap_or(text) {
                "" => Self::Any,
                prefix => Self::Prefix(prefix.to_owned()),
            },
            Path::Template(_) => {
                let template = Template::parse(text)?;
                if template.names.is_empty() {
                    Self::Exact(text.clone())
                } else {
                    Self::Template(template)
                }
            }
            _ => Self::Exact(text.clone()),
        })
    }

    /// Whether it fits every path that begins with a slash.
    pub(super) fn fits_all(&self) -> bool {
        match self {
            Self::Any => true,
            Self::Template(template) => template.rest && template.segments.is_empty(),
            _ => false,
        }
    }

    /// Whether it fits a path; `regex` answers for an expression.
    pub(super) fn fits(&self, path: &str, regex: impl FnOnce(&str) -> bool) -> bool {
        match self {
            Self::Any => true,
            Self::Exact(exact) => exact == path,
            Self::Prefix(prefix) => path
                .strip_prefix(prefix.as_str())
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/')),
            Self::Template(template) => template.fits(path),
            Self::Regex(pattern) => path.starts_with('/') && regex(pattern),
        }
    }

    /// How specific it is: greater wins.
    pub(super) fn rank(&self) -> Rank {
        let rank =
            |class: u64, literals: usize, segments: usize, captures: usize, template: bool| {
                Rank(
                    class << 62
                        | (literals as u64) << 32
                        | (segments as u64) << 16
                        | (captures as u64) << 1
                        | u64::from(template),
                )
            };
        match self {
            _ if self.fits_all() => rank(0, 0, 0, 0, false),
            Self::Any => rank(0, 0, 0, 0, false),
            Self::Regex(_) => rank(1, 0, 0, 0, false),
            Self::Exact(exact) => rank(3, exact.len(), 0, 0, false),
            Self::Prefix(prefix) => rank(2, prefix.len(), prefix.matches('/').count(), 0, false),
            Self::Template(template) => {
                let literals = || template.segments.iter().flatten();
                let captured = template.segments.len() - literals().count();
                let bytes = literals().map(|literal| literal.len() + 1).sum();
                rank(2, bytes, literals().count(), captured, true)
            }
        }
    }

    /// The length that a prefix rewrite replaces, if it does not depend on the request.
    pub(super) fn prefix_len(&self) -> Option<u32> {
        match self {
            Self::Any => Some(0),
            Self::Prefix(prefix) => Some(prefix.len() as u32),
            _ => None,
        }
    }
}

/// A path in a plan must be what requests are normalised to, or it could never fit.
pub(crate) fn check_literal(text: &str) -> Result<(), String> {
    if text.contains(['?', '#']) {
        return Err(format!("path `{text}` must not have a query or fragment"));
    }
    let rules = path::Rules { encoded_slash: path::EncodedSlash::Keep, ..path::Rules::default() };
    match path::normalise(text, rules) {
        Ok(normal) if normal == text && text.starts_with('/') => Ok(()),
        Ok(normal) if text.starts_with('/') => Err(format!(
            "path `{text}` can never fit, since requests for it are normalised to `{normal}` first"
        )),
        _ => Err(format!(
            "path `{text}` is not one that is let in: begin with a slash, escape what \
             is not ASCII, and leave out control characters, backslashes and dot segments"
        )),
    }
}

/// How specific a path is; greater wins. From the top: kind, literal characters, literal segments,
/// captured segments, and whether it is a template.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Rank(u64);

impl Rank {
    /// That of every regular expression; below it is only what fits every path.
    pub(super) const REGEX: Self = Self(1 << 62);
}

/// The buckets that a path passes, each with its rank.
pub(super) type Passed = SmallVec<[(Rank, u32); 16]>;

#[derive(Clone, Copy, Debug)]
struct Node {
    /// Bucket of the prefix that ends here.
    prefix: u32,
    /// Bucket of the templates whose rest begins here.
    rest: u32,
    /// Bucket of what ends here: an exact path, or templates of this shape.
    end: u32,
    /// Bucket of the expressions whose literal beginning ends here.
    regex: u32,
    /// The node after a captured segment.
    capture: u32,
    /// Whether it has literal edges.
    edges: bool,
}

const LEAF: Node =
    Node { prefix: NONE, rest: NONE, end: NONE, regex: NONE, capture: NONE, edges: false };

/// The paths of all hosts of a table: each host has a root.
#[derive(Clone, Debug, Default)]
pub(super) struct Tree {
    nodes: Vec<Node>,
    edges: Edges,
    ranks: Vec<Rank>,
}

impl Tree {
    /// Adds a root.
    pub(super) fn root(&mut self) -> u32 {
        self.nodes.push(LEAF);
        self.nodes.len() as u32 - 1
    }

    /// The bucket of a pattern below a root; a new one is numbered by `bucket`. What fits every path has
    /// none here. An expression stands where its literal beginning ends, so that a request meets only those
    /// that it begins like.
    pub(super) fn place(
        &mut self,
        root: u32,
        pattern: &Pattern,
        bucket: &mut impl FnMut() -> u32,
    ) -> Option<u32> {
        if pattern.fits_all() {
            return None;
        }
        let (node, slot): (u32, fn(&mut Node) -> &mut u32) = match pattern {
            Pattern::Any => return None,
            Pattern::Regex(regex) => {
                let literal = literal_start(regex);
                let whole = literal.rfind('/').map_or("", |end| &literal[..end]);
                let segments = whole.split('/').skip(1).map(Some);
                (self.descend(root, segments), |node| &mut node.regex)
            }
            Pattern::Exact(path) => {
                (self.descend(root, path[1..].split('/').map(Some)), |node| &mut node.end)
            }
            Pattern::Prefix(path) => {
                (self.descend(root, path[1..].split('/').map(Some)), |node| &mut node.prefix)
            }
            Pattern::Template(template) => {
                let node = self.descend(root, template.segments.iter().map(Option::as_deref));
                (node, if template.rest { |node| &mut node.rest } else { |node| &mut node.end })
            }
        };
        let slot = slot(&mut self.nodes[node as usize]);
        if *slot == NONE {
            *slot = bucket();
            let at = *slot as usize;
            if self.ranks.len() <= at {
                self.ranks.resize(at + 1, Rank(0));
            }
            self.ranks[at] = pattern.rank();
        }
        Some(*slot)
    }

    fn descend<'a>(&mut self, root: u32, segments: impl Iterator<Item = Option<&'a str>>) -> u32 {
        let mut node = root;
        for segment in segments {
            let next = self.nodes.len() as u32;
            let child = match segment {
                Some(literal) => {
                    self.nodes[node as usize].edges = true;
                    self.edges.get_or_insert(node, literal.as_bytes(), next)
                }
                None => {
                    let capture = &mut self.nodes[node as usize].capture;
                    if *capture == NONE {
                        *capture = next;
                    }
                    *capture
                }
            };
            if child == next {
                self.nodes.push(LEAF);
            }
            node = child;
        }
        node
    }

    /// The buckets that fit a path below a root, the best first.
    pub(super) fn walk(&self, root: u32, path: &str, passed: &mut Passed) {
        passed.clear();
        let path = path.as_bytes();
        if path.first() != Some(&b'/') {
            return;
        }
        let mut branches: SmallVec<[(u32, usize); 8]> = SmallVec::new();
        let mut next = Some((root, 1));
        while let Some((mut number, mut at)) = next {
            loop {
                let node = &self.nodes[number as usize];
                self.pass(node.prefix, passed);
                self.pass(node.regex, passed);
                if at > path.len() {
                    self.pass(node.end, passed);
                    break;
                }
                self.pass(node.rest, passed);
                let end = segment_end(path, at);
                if node.capture != NONE && end > at {
                    branches.push((node.capture, end + 1));
                }
                if !node.edges {
                    break;
                }
                match self.edges.get(number, &path[at..end]) {
                    Some(child) => (number, at) = (child, end + 1),
                    None => break,
                }
            }
            next = branches.pop();
        }
        // Along literal edges the ranks rise, so that this is a reversal more often than a sort.
        if passed.len() > 1 {
            passed.sort_unstable_by(|a, b| b.cmp(a));
        }
    }

    fn pass(&self, bucket: u32, passed: &mut Passed) {
        if bucket != NONE {
            passed.push((self.ranks[bucket as usize], bucket));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn template(text: &str) -> Pattern {
        Pattern::parse(&Path::Template(text.into())).unwrap()
    }

    fn prefix(text: &str) -> Pattern {
        Pattern::parse(&Path::Prefix(text.into())).unwrap()
    }

    #[test]
    fn what_fits() {
        for (pattern, fitting, others) in [
            (prefix("/a"), &["/a", "/a/", "/a/b"][..], &["/", "/ab", "/A", "a", "*"][..]),
            (prefix("/a/"), &["/a", "/a/", "/a/b"], &["/", "/ab"]),
            (prefix("/"), &["/", "/a", "*", ""], &[]),
            (template("/a/{x}"), &["/a/b", "/a/{x}"], &["/a", "/a/", "/a/b/", "/a/b/c"]),
            (template("/{x}/b"), &["/a/b"], &["//b", "/b", "/a/b/"]),
            (template("/a/{*r}"), &["/a/", "/a/b", "/a/b/c/"], &["/a", "/ab", "/"]),
            (template("/{x}/{*r}"), &["/a/", "/a/b/c"], &["/a", "/", "//b"]),
            (template("/{*r}"), &["/", "/a", "/a/b"], &["*", ""]),
            (template("/a/b"), &["/a/b"], &["/a/b/", "/a"]),
        ] {
            for path in fitting {
                assert!(pattern.fits(path, |_| false), "{pattern:?} {path}");
            }
            for path in others {
                assert!(!pattern.fits(path, |_| false), "{pattern:?} {path}");
            }
        }
    }

    #[test]
    fn captures_are_places_in_the_path() {
        for (text, path, taken) in [
            ("/a/{x}", "/a/42", &["42"][..]),
            ("/{x}/b/{y}", "/1/b/22", &["1", "22"]),
            ("/a/{*rest}", "/a/b/c", &["b/c"]),
            ("/a/{*rest}", "/a/", &[""]),
            ("/{*rest}", "/", &[""]),
            ("/{x}/{*rest}", "/a/b/", &["a", "b/"]),
        ] {
            let Pattern::Template(template) = template(text) else { panic!("{text}") };
            let mut ranges = Vec::new();
            template.capture(path, |range| ranges.push(&path[range]));
            assert_eq!(ranges, taken, "{text} {path}");
        }
    }

    #[test]
    fn the_more_specific_ranks_higher() {
        let falling = [
            Pattern::Exact("/".into()),
            template("/a/{x}/b/{y}"),
            template("/a/{x}/b"),
            prefix("/a/b"),
            template("/a/{x}/{y}"),
            template("/a/{x}/{*r}"),
            template("/a/{*r}"),
            prefix("/a"),
            template("/{x}/{y}"),
            template("/{x}"),
            Pattern::Regex(".*".into()),
            Pattern::Any,
        ];
        for pair in falling.windows(2) {
            // The first two have the same literals; one is longer by a capture.
            assert!(pair[0].rank() > pair[1].rank(), "{pair:?}");
        }
        assert_eq!(prefix("/").rank(), template("/{*rest}").rank());
        assert_eq!(Pattern::Regex("a".into()).rank(), Rank::REGEX);
    }

    #[test]
    fn what_can_never_fit_is_refused() {
        for (path, reason) in [
            (Path::Exact("a".into()), "begin with a slash"),
            (Path::Exact(String::new()), "begin with a slash"),
            (Path::Exact("*".into()), "begin with a slash"),
            (Path::Prefix(String::new()), "begin with a slash"),
            (Path::Prefix("/a/../b".into()), "normalised to `/b`"),
            (Path::Prefix("//a".into()), "normalised to `/a`"),
            (Path::Exact("/%41".into()), "normalised to `/A`"),
            (Path::Exact("/a?b".into()), "query"),
            (Path::Exact("/a#b".into()), "fragment"),
            (Path::Exact("/ä".into()), "ASCII"),
            (Path::Exact("/a\r\nb".into()), "control"),
            (Path::Template("{a}".into()), "begin with a slash"),
            (Path::Template("/a{b}".into()), "whole segment"),
            (Path::Template("/{a}.json".into()), "whole segment"),
            (Path::Template("/{a".into()), "whole segment"),
            (Path::Template("/{}".into()), "name"),
            (Path::Template("/{1a}".into()), "name"),
            (Path::Template("/{*}".into()), "name"),
            (Path::Template("/{a-b}".into()), "name"),
            (Path::Template("/{a}/{a}".into()), "twice"),
            (Path::Template("/{*a}/b".into()), "after"),
            (Path::Exact(format!("/{}", "a".repeat(5000))), "longer"),
        ] {
            let error = Pattern::parse(&path).unwrap_err();
            assert!(error.contains(reason), "{path:?}: {error}");
        }
    }
}
