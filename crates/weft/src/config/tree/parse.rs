//! From the events of the YAML parser to a tree.

use std::{
    collections::{HashMap, hash_map::Entry},
    sync::Arc,
};

use granit_parser::{Event, Parser, ScalarStyle, Span, StrInput};

use super::{ALIASED_MAX, DEPTH_MAX, Key, Kind, NODES_MAX, Node, Text};
use crate::config::{
    kept::Cut,
    problem::Problem,
    source::{Place, Sources},
};

/// Something that is still open while the parser is within it.
struct Open {
    anchor: usize,
    place: Place,
    what: Container,
}

enum Container {
    List(Vec<Node>),
    Map { entries: Vec<(Key, Node)>, seen: Seen, key: Option<Option<Key>> },
}

/// The keys of a map so far; only a large map is worth an index.
#[derive(Default)]
struct Seen {
    few: Vec<(Arc<str>, Place)>,
    many: HashMap<Arc<str>, Place>,
}

impl Seen {
    const FEW: usize = 16;

    /// Takes a key in, or gives the place where it stands already.
    fn insert(&mut self, key: &Arc<str>, place: Place) -> Option<Place> {
        if self.many.is_empty() {
            if let Some((_, first)) = self.few.iter().find(|(other, _)| other == key) {
                return Some(*first);
            }
            self.few.push((Arc::clone(key), place));
            if self.few.len() > Self::FEW {
                self.many.extend(self.few.drain(..));
            }
            return None;
        }
        match self.many.entry(Arc::clone(key)) {
            Entry::Occupied(entry) => Some(*entry.get()),
            Entry::Vacant(entry) => {
                entry.insert(place);
                None
            }
        }
    }
}

struct Builder<'a> {
    file: u32,
    text: &'a str,
    cut: &'a Cut<'a>,
    open: Vec<Open>,
    anchors: HashMap<usize, Node>,
    root: Option<Node>,
    nodes: usize,
    aliased: usize,
    problems: &'a mut Vec<Problem>,
}

/// Parses a file; `None` if it holds nothing or was refused, with the reason in `problems`.
pub fn parse(sources: &Sources, file: u32, problems: &mut Vec<Problem>) -> Option<Node> {
    let text = Arc::clone(&sources.files().get(file as usize)?.text);
    parse_cut(sources, file, &Cut::whole(&text), problems)
}

/// Parses a file without what was cut out of it; places are those of the whole file.
pub(in crate::config) fn parse_cut(
    sources: &Sources,
    file: u32,
    cut: &Cut<'_>,
    problems: &mut Vec<Problem>,
) -> Option<Node> {
    let text = Arc::clone(&sources.files().get(file as usize)?.text);
    let options = granit_parser::options! { emit_comments: false };
    let parser: Parser<'_, StrInput<'_>> = Parser::new_from_str_with_options(cut.text(), options);
    let before = problems.len();
    let mut builder = Builder {
        file,
        text: &text,
        cut,
        open: Vec::new(),
        anchors: HashMap::new(),
        root: None,
        nodes: cut.nodes(),
        aliased: 0,
        problems,
    };
    for next in parser {
        let done = match next {
            Ok((event, span)) => builder.event(event, &span),
            Err(error) => {
                let at = cut.start(error.marker().byte_offset().unwrap_or(0));
                let place = builder.at_line(at);
                let mut problem =
                    Problem::error(place, format!("this is not YAML: {}", error.info()));
                if let Some(help) = unquoted(sources.text(place).unwrap_or_default()) {
                    problem = problem.help(help);
                }
                builder.problems.push(problem);
                Err(())
            }
        };
        if done.is_err() {
            return None;
        }
    }
    let root = builder.root;
    if root.is_none() && problems.len() == before {
        problems.push(Problem::about_file(
            &sources.files()[file as usize].path,
            "nothing stands in this file",
        ));
    }
    root
}

/// Parses a text of ours: the default of a setting.
pub(in crate::config) fn parse_built_in(text: &str) -> Node {
    let mut sources = Sources::default();
    let file = sources.add("default", text);
    let mut node =
        parse(&sources, file, &mut Vec::new()).unwrap_or_else(|| Node::built_in(Kind::Null));
    detach(&mut node);
    node
}

/// Parses a text that is no part of a configuration; `None` if it is not YAML.
pub(crate) fn parse_alone(text: &str) -> Option<Node> {
    let mut sources = Sources::default();
    let file = sources.add("text", text);
    let mut problems = Vec::new();
    let node = parse(&sources, file, &mut problems);
    problems.is_empty().then(|| node.unwrap_or_else(|| Node::built_in(Kind::Null)))
}

/// What is likely meant by a line that is not YAML.
fn unquoted(line: &str) -> Option<&'static str> {
    let bytes = line.as_bytes();
    // Where a value begins: after a blank, a bracket or a comma.
    let begins = |at: usize| at == 0 || matches!(bytes[at - 1], b' ' | b'[' | b'{' | b',' | b':');
    let has = |what: &[u8]| (0..bytes.len()).any(|at| bytes[at..].starts_with(what) && begins(at));
    if has(b"*.") || has(b"*") {
        return Some(
            "a value that begins with `*` is an alias to YAML: write it in quotes, as in '*.example.com'",
        );
    }
    if has(b"${") && line.contains(['[', '{']) {
        return Some("within brackets a variable is written in quotes, as in [\"${NAME}\"]");
    }
    if has(b"@") || has(b"`") || has(b"%") {
        return Some("a value that begins so is written in quotes");
    }
    None
}

fn detach(node: &mut Node) {
    node.place = Place::BUILT_IN;
    match &mut node.kind {
        Kind::List(items) => items.iter_mut().for_each(detach),
        Kind::Map(entries) => entries.iter_mut().for_each(|(key, value)| {
            key.place = Place::BUILT_IN;
            detach(value);
        }),
        _ => {}
    }
}

impl Builder<'_> {
    fn event(&mut self, event: Event<'_>, span: &Span) -> Result<(), ()> {
        match event {
            Event::DocumentStart(..) if self.root.is_some() => {
                let problem = Problem::error(self.place(span), "a second document begins here")
                    .help("write one document a file, and give Weft the folder");
                self.refuse(problem)
            }
            Event::Scalar(text, style, anchor, tag) => {
                let plain = style == ScalarStyle::Plain
                    && !tag.as_ref().is_some_and(|tag| tag.is_yaml_core_schema_tag("str"));
                if let Some(tag) = tag.filter(|tag| !tag.is_yaml_core_schema()) {
                    let problem = Problem::error(
                        self.place(span),
                        format!("the tag `{}` means nothing here", tag.original()),
                    );
                    self.problems.push(problem);
                }
                let null = plain && ["", "~", "null", "Null", "NULL"].contains(&&*text);
                let kind =
                    if null { Kind::Null } else { Kind::Text(Text { plain, ..Text::new(text) }) };
                self.value(Node { place: self.place(span), kind }, anchor)
            }
            Event::SequenceStart(_, anchor, _) => {
                self.begin(anchor, span, Container::List(Vec::new()))
            }
            Event::MappingStart(_, anchor, _) => self.begin(
                anchor,
                span,
                Container::Map { entries: Vec::new(), seen: Seen::default(), key: None },
            ),
            Event::SequenceEnd | Event::MappingEnd => self.end(span),
            Event::Alias(id) => {
                let place = self.place(span);
                let Some(target) = self.anchors.get(&id) else {
                    return self.refuse(Problem::error(
                        place,
                        "this alias stands within what it refers to, so it would never end",
                    ));
                };
                let size = target.count();
                self.aliased += size;
                if self.aliased > ALIASED_MAX {
                    return self.refuse(Problem::error(
                        place,
                        format!("aliases unfold to more than {ALIASED_MAX} values"),
                    ));
                }
                self.nodes += size;
                let node = target.clone();
                self.value(node, 0)
            }
            _ => Ok(()),
        }
    }

    fn refuse(&mut self, problem: Problem) -> Result<(), ()> {
        self.problems.push(problem);
        Err(())
    }

    fn begin(&mut self, anchor: usize, span: &Span, what: Container) -> Result<(), ()> {
        let place = self.place(span);
        if self.open.len() >= DEPTH_MAX {
            return self.refuse(Problem::error(
                self.at_line(place.start as usize),
                format!("this is nested more than {DEPTH_MAX} deep"),
            ));
        }
        self.open.push(Open { anchor, place, what });
        Ok(())
    }

    fn end(&mut self, span: &Span) -> Result<(), ()> {
        let Some(open) = self.open.pop() else { return Ok(()) };
        let end = self.place(span).end;
        let place = self.first_line(Place { end, ..open.place });
        let kind = match open.what {
            Container::List(items) => Kind::List(items),
            Container::Map { entries, .. } => Kind::Map(self.merged(entries)?),
        };
        self.value(Node { place, kind }, open.anchor)
    }

    /// The entries of a map with those of its merge key (`<<`): a map or a list of maps, of which an
    /// earlier one wins and what the map says itself wins over all.
    fn merged(&mut self, entries: Vec<(Key, Node)>) -> Result<Vec<(Key, Node)>, ()> {
        let Some(at) = entries.iter().position(|(key, _)| &*key.text == "<<") else {
            return Ok(entries);
        };
        let mut own = entries;
        let (key, value) = own.remove(at);
        let maps = match value.kind {
            Kind::List(items) => items,
            _ => vec![value],
        };
        let mut seen = Seen::default();
        for (key, _) in &own {
            seen.insert(&key.text, key.place);
        }
        for map in maps {
            match map.kind {
                Kind::Map(more) => {
                    for (key, value) in more {
                        if seen.insert(&key.text, key.place).is_none() {
                            own.push((key, value));
                        }
                    }
                }
                Kind::Null | Kind::Bad => {}
                _ => {
                    let what = format!("`<<` takes in maps, and this is {}", map.about());
                    self.problems.push(Problem::error(key.place, what));
                }
            }
        }
        Ok(own)
    }

    fn value(&mut self, node: Node, anchor: usize) -> Result<(), ()> {
        self.nodes += 1;
        if self.nodes > NODES_MAX {
            return self.refuse(Problem::error(
                node.place,
                format!("more than {NODES_MAX} values are in this file"),
            ));
        }
        if anchor != 0 {
            self.anchors.insert(anchor, node.clone());
        }
        let Some(open) = self.open.last_mut() else {
            self.root = Some(node);
            return Ok(());
        };
        match &mut open.what {
            Container::List(items) => items.push(node),
            Container::Map { entries, seen, key } => match key.take() {
                None => {
                    let text: Option<Arc<str>> = match &node.kind {
                        Kind::Text(text) => Some(Arc::clone(&text.text)),
                        Kind::Null => Some("null".into()),
                        _ => {
                            self.problems
                                .push(Problem::error(node.place, "a key must be plain text"));
                            None
                        }
                    };
                    // A second key of the same name is reported and passed over with its value.
                    let text = text.and_then(|text| match seen.insert(&text, node.place) {
                        Some(first) => {
                            self.problems.push(
                                Problem::error(node.place, format!("`{text}` stands here twice"))
                                    .and(first, "first here"),
                            );
                            None
                        }
                        None => Some(text),
                    });
                    *key = Some(text.map(|text| Key { text, place: node.place }));
                }
                Some(None) => {}
                Some(Some(key)) => entries.push((key, node)),
            },
        }
        Ok(())
    }

    fn place(&self, span: &Span) -> Place {
        let range = span.byte_range().unwrap_or(0..0);
        let clip = |at: usize| u32::try_from(at.min(self.text.len())).unwrap_or(u32::MAX);
        let start = self.cut.start(range.start);
        Place { file: self.file, start: clip(start), end: clip(self.cut.end(range.end).max(start)) }
    }

    /// The line of a byte, or the last one that holds anything.
    fn at_line(&self, at: usize) -> Place {
        let mut at = at.min(self.text.trim_end().len().saturating_sub(1));
        while !self.text.is_char_boundary(at) {
            at -= 1;
        }
        let start = self.text[..at].rfind('\n').map_or(0, |newline| newline + 1);
        let end = self.text[at..].find('\n').map_or(self.text.len(), |newline| at + newline);
        let indent = self.text[start..end.max(start)].len()
            - self.text[start..end.max(start)].trim_start().len();
        let clip = |at: usize| u32::try_from(at).unwrap_or(u32::MAX);
        Place { file: self.file, start: clip(start + indent), end: clip(end.max(start + indent)) }
    }

    fn first_line(&self, place: Place) -> Place {
        let Some(text) = self.text.get(place.start as usize..place.end as usize) else {
            return place;
        };
        let line = text.lines().next().unwrap_or("").trim_end();
        Place { end: place.start + u32::try_from(line.len()).unwrap_or(0), ..place }
    }
}
