//! What one load leaves to the next, so that a reload costs what changed and not all that is there.
//!
//! A configuration of thousands of routes most often changes in one place. A [`File`] remembers its text
//! and what each item of its `routes` came to. Of a new text, the items that lie whole within what stayed
//! at its beginning or at its end are cut out before it is parsed, and their plans are taken as they are. So are
//! other large sections, of which the tree is taken, at its new places.
//!
//! Why that is sound: an item is remembered only if it stands by itself ([`is_plain`]), began on a line of
//! its own with a dash at the same column as all others, and was read without anything being said of it.
//! Its text includes the dash of the item behind it, so YAML cannot end it elsewhere. What is cut out
//! stands directly before an item that is parsed, and [`Cut::fits`] asks that the parser took that one for an item
//! of the same list: then it would have taken those that were cut out for items as well. What a plan
//! depends on beside its own text (policies, names of services and listeners) is compared or checked anew
//! by [`routes`](super::routes), and what it names of a component by that component. Whoever finds anything else than expected gives up, and everything is
//! read as for the first time; so does a load that finds anything wrong, which makes its places those of
//! a whole load. That both come to the same is held by a property test. A section is cut out on the same grounds: its key
//! began a line, and the key behind it, which stays, must be taken for one of the file again.

use std::{
    borrow::Cow,
    collections::HashMap,
    path::{Path, PathBuf},
    sync::Arc,
};

use weft_kernel::Name;
use weft_proxy::plan;

use super::{
    source::{Place, Sources},
    tree::{Key, Kind, Node},
};

/// What the text of a route came to.
#[derive(Debug)]
pub(super) struct Item {
    /// The route.
    pub(super) plan: Arc<plan::Route>,
    /// The policies that it names.
    pub(super) policies: Vec<Name>,
    /// How many values its text holds.
    pub(super) nodes: usize,
}

/// An item with the place where it stands now.
pub(super) type Placed = (Place, Arc<Item>);

/// Values of a section that is worth being kept.
const LARGE: usize = 200;

/// A large section of a file, as it was parsed.
#[derive(Debug)]
pub(super) struct Section {
    key: Key,
    node: Node,
    nodes: usize,
}

impl PlacedSection {
    /// How far on it stands from where it stood, if it is the same.
    pub(super) fn moved_from(&self, then: &Self) -> Option<i64> {
        Arc::ptr_eq(&self.section, &then.section).then(|| self.start as i64 - then.start as i64)
    }
}

impl Section {
    /// Where its key stood when it was parsed.
    fn origin(&self) -> usize {
        self.key.place.start as usize
    }

    /// It where its key stands now.
    fn at(&self, start: usize) -> (Key, Node) {
        let by = start as i64 - self.origin() as i64;
        let mut node = self.node.clone();
        node.shift(by);
        (Key { text: Arc::clone(&self.key.text), place: self.key.place.shifted(by) }, node)
    }
}

/// A section with where it begins and where the next one does.
#[derive(Clone, Debug)]
pub(super) struct PlacedSection {
    start: usize,
    end: usize,
    section: Arc<Section>,
}

/// Large sections that stand in a load, by their keys: those of which no part stands elsewhere.
#[derive(Debug, Default)]
pub(super) struct Standing(HashMap<Arc<str>, Vec<(u32, PlacedSection)>>);

impl Standing {
    /// Those of all files, `roots` being what stands in them.
    pub(super) fn new(roots: &[Node], sections: &[Vec<PlacedSection>]) -> Self {
        let mut standing: HashMap<_, Vec<_>> = HashMap::new();
        for (number, sections) in (0..).zip(sections) {
            for placed in sections {
                let key = Arc::clone(&placed.section.key.text);
                standing.entry(key).or_default().push((number, placed.clone()));
            }
        }
        let parts = |key: &str| roots.iter().filter(|root| root.get(key).is_some()).count();
        standing.retain(|key, all| parts(key) == all.len());
        Self(standing)
    }

    /// Where all of a section stands, if it is large.
    pub(super) fn of(&self, key: &str) -> Option<&[(u32, PlacedSection)]> {
        self.0.get(key).map(Vec::as_slice)
    }
}

/// What a load came to.
#[derive(Debug, Default)]
pub(super) struct Kept {
    /// The `policies`, which every route may depend on.
    policies: Option<Node>,
    files: HashMap<PathBuf, File>,
}

/// What a file came to.
#[derive(Debug)]
struct File {
    text: Arc<str>,
    /// The column of the dashes.
    column: usize,
    /// Where the lines of the items begin; an item ends where the next begins.
    starts: Vec<usize>,
    /// What each came to, unless it must be read again.
    items: Vec<Option<Arc<Item>>>,
    /// Large sections, in order.
    sections: Vec<PlacedSection>,
}

impl Kept {
    /// Remembers a load; `items` holds every route in order, `None` for one that must be read again, and `sections`
    /// those of each file.
    pub(super) fn new(
        sources: &Sources,
        policies: Option<&Node>,
        items: Vec<(Place, Option<Arc<Item>>)>,
        sections: Vec<Vec<PlacedSection>>,
    ) -> Self {
        let mut files = HashMap::new();
        let mut items = items.into_iter().peekable();
        for ((number, file), sections) in (0..).zip(sources.files()).zip(sections) {
            let mut own = Vec::new();
            while let Some(item) = items.next_if(|(place, _)| place.file == number) {
                own.push(item);
            }
            let kept = File::new(&file.text, own);
            let kept = kept.unwrap_or_else(|| File::without_items(&file.text));
            if !kept.items.is_empty() || !sections.is_empty() {
                files.insert(file.path.clone(), File { sections, ..kept });
            }
        }
        Self { policies: policies.cloned(), files }
    }

    /// Whether there is nothing that a load could make use of.
    pub(super) fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    /// Whether these are the policies that the items were read with.
    pub(super) fn has_policies(&self, policies: Option<&Node>) -> bool {
        match (&self.policies, policies) {
            (Some(old), Some(new)) => old.reads_like(new),
            (None, None) => true,
            _ => false,
        }
    }

    /// What of a file is to be parsed.
    pub(super) fn cut<'a>(&self, path: &Path, number: u32, text: &'a str) -> Cut<'a> {
        match self.files.get(path) {
            Some(file) => file.cut(number, text),
            None => Cut::whole(text),
        }
    }
}

impl File {
    /// `None` if the items do not stand as they must.
    fn new(text: &Arc<str>, items: Vec<(Place, Option<Arc<Item>>)>) -> Option<Self> {
        let (first, _) = items.first()?;
        let (_, column) = dash(text, first.start as usize)?;
        let mut starts = Vec::with_capacity(items.len());
        for (place, _) in &items {
            let (start, own) = dash(text, place.start as usize)?;
            if own != column || starts.last().is_some_and(|last| *last >= start) {
                return None;
            }
            starts.push(start);
        }
        let mut items: Vec<Option<Arc<Item>>> = items.into_iter().map(|(_, item)| item).collect();
        for (at, item) in items.iter_mut().enumerate() {
            // The last has no item behind it that would show where it ends.
            let text = starts.get(at + 1).and_then(|end| text.get(starts[at]..*end));
            if !text.is_some_and(is_plain) {
                *item = None;
            }
        }
        Some(Self { text: Arc::clone(text), column, starts, items, sections: Vec::new() })
    }

    fn without_items(text: &Arc<str>) -> Self {
        let (starts, items, sections) = Default::default();
        Self { text: Arc::clone(text), column: 0, starts, items, sections }
    }

    /// Cuts out of a new text what stayed.
    fn cut<'a>(&self, number: u32, text: &'a str) -> Cut<'a> {
        let (old, new) = (self.text.as_bytes(), text.as_bytes());
        let head = old.iter().zip(new).take_while(|(a, b)| a == b).count();
        // With the dash and the space of the item behind it.
        let upto = head.saturating_sub(self.column + 2);
        let before = self.starts.partition_point(|start| *start <= upto).saturating_sub(1);
        let from = self.starts.get(before).copied().unwrap_or(0);
        let rest = old.len().min(new.len()).saturating_sub(from);
        let tail = old.iter().rev().zip(new.iter().rev()).take(rest);
        let tail = tail.take_while(|(a, b)| a == b).count();
        // What comes before must end in a line of its own.
        let first = old.len() - tail;
        let after = self.starts.partition_point(|start| *start < first).max(before);
        let ends_line = |at: usize| at == 0 || new.get(at - 1) == Some(&b'\n');
        let mut cut = Cut::whole(text);
        cut.column = self.column;
        let now = |at: usize, moved: bool| if moved { at + new.len() - old.len() } else { at };
        let mut out = Vec::new();
        for (at, item) in self.items.iter().enumerate() {
            let moved = at >= after;
            let (Some(item), Some(end)) = (item, self.starts.get(at + 1)) else { continue };
            if at >= before && !moved {
                continue;
            }
            let (start, end) = (now(self.starts[at], moved), now(*end, moved));
            if ends_line(start) {
                out.push((start, end));
                let place = content(number, text, start + self.column + 1);
                cut.items.push((place, Arc::clone(item)));
            }
        }
        // A tail that reaches into the head would count some of it twice.
        let tail = old.iter().rev().zip(new.iter().rev()).take(old.len().min(new.len()) - head);
        let first = old.len() - tail.take_while(|(a, b)| a == b).count();
        for PlacedSection { start, end, section } in &self.sections {
            // With the key behind it, of which a byte at least must be the same.
            let moved = *start >= first;
            if (*end < head || moved) && ends_line(now(*start, moved)) {
                let (start, end) = (now(*start, moved), now(*end, moved));
                out.push((start, end));
                cut.sections.push(PlacedSection { start, end, section: Arc::clone(section) });
            }
        }
        out.sort_unstable();
        cut.take_out(text, &out);
        cut
    }
}

/// Where the content of an item begins whose dash stands before `at`.
fn content(file: u32, text: &str, at: usize) -> Place {
    let spaces = text.bytes().skip(at).take_while(|byte| *byte == b' ').count();
    let start = u32::try_from(at + spaces).unwrap_or(u32::MAX);
    Place { file, start, end: start }
}

/// A text without what an earlier load has read already.
#[derive(Debug)]
pub(super) struct Cut<'a> {
    text: Cow<'a, str>,
    column: usize,
    gaps: Vec<Gap>,
    /// Items of routes that were cut out, in order.
    pub(super) items: Vec<Placed>,
    /// Sections that were cut out, in order.
    sections: Vec<PlacedSection>,
}

/// Where something was cut out.
#[derive(Debug)]
struct Gap {
    /// Where it would go on in what is left.
    at: usize,
    /// How many bytes were taken out up to here.
    removed: usize,
}

impl<'a> Cut<'a> {
    /// All of a text.
    pub(super) fn whole(text: &'a str) -> Self {
        let (gaps, items, sections) = Default::default();
        Self { text: Cow::Borrowed(text), column: 0, gaps, items, sections }
    }

    /// Takes these pieces out, which are in order and apart.
    fn take_out(&mut self, text: &str, pieces: &[(usize, usize)]) {
        if pieces.is_empty() {
            return;
        }
        let (mut out, mut copied) = (String::new(), 0);
        for &(start, end) in pieces {
            out.push_str(text.get(copied..start).unwrap_or(""));
            copied = end;
            match self.gaps.last_mut() {
                Some(gap) if gap.at == out.len() => gap.removed += end - start,
                last => {
                    let removed = last.map_or(0, |gap| gap.removed) + end - start;
                    self.gaps.push(Gap { at: out.len(), removed });
                }
            }
        }
        out.push_str(text.get(copied..).unwrap_or(""));
        self.text = Cow::Owned(out);
    }

    /// Whether nothing was cut out.
    pub(super) fn is_whole(&self) -> bool {
        self.gaps.is_empty()
    }

    /// How many values were cut out.
    pub(super) fn nodes(&self) -> usize {
        let sections = self.sections.iter().map(|placed| placed.section.nodes);
        self.items.iter().map(|(_, item)| item.nodes).sum::<usize>() + sections.sum::<usize>()
    }

    /// Puts the sections that were cut out into a file's root, in their places, and gives those of it that are to be
    /// kept. `None` if one of them stands there already.
    pub(super) fn put_back(&self, root: &mut Node, text: &str) -> Option<Vec<PlacedSection>> {
        let Kind::Map(entries) = &mut root.kind else { return Some(Vec::new()) };
        let is_back = |placed: &PlacedSection| {
            entries.iter().any(|(key, _)| key.text == placed.section.key.text)
        };
        if self.sections.iter().any(is_back) {
            return None;
        }
        let mut starts: Vec<usize> =
            entries.iter().map(|(key, _)| key.place.start as usize).collect();
        starts.extend(self.sections.iter().map(|placed| placed.start));
        starts.sort_unstable();
        let large = |(key, node): &(Key, Node)| {
            let (start, nodes) = (key.place.start as usize, node.count());
            let end = *starts.get(starts.partition_point(|other| *other <= start))?;
            let begins = start == 0 || text.as_bytes().get(start - 1) == Some(&b'\n');
            let is_kept = begins
                && nodes >= LARGE
                && *key.text != *"routes"
                && text.get(start..end).is_some_and(is_plain);
            let section = || Section { key: key.clone(), node: node.clone(), nodes };
            is_kept.then(|| PlacedSection { start, end, section: Arc::new(section()) })
        };
        // What takes in others by `<<` has them from elsewhere.
        let mut kept: Vec<PlacedSection> = match text.contains("<<") {
            true => Vec::new(),
            false => entries.iter().filter_map(large).collect(),
        };
        kept.extend(self.sections.iter().cloned());
        kept.sort_by_key(|placed| placed.start);
        entries.extend(self.sections.iter().map(|placed| placed.section.at(placed.start)));
        entries.sort_by_key(|(key, _)| key.place.start);
        Some(kept)
    }

    /// What is to be parsed.
    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// Where something that begins here in what is left begins in the file.
    pub(super) fn start(&self, at: usize) -> usize {
        at + self.removed(self.gaps.partition_point(|gap| gap.at <= at))
    }

    /// Where something that ends here in what is left ends in the file.
    pub(super) fn end(&self, at: usize) -> usize {
        at + self.removed(self.gaps.partition_point(|gap| gap.at < at))
    }

    fn removed(&self, gaps: usize) -> usize {
        gaps.checked_sub(1).map_or(0, |last| self.gaps[last].removed)
    }

    /// Whether what was parsed shows that all that was cut out stood in the list of routes, or in the map of sections.
    pub(super) fn fits(&self, root: &Node, text: &str) -> bool {
        if self.is_whole() {
            return true;
        }
        let Kind::Map(entries) = &root.kind else { return false };
        let mut starts: Vec<usize> =
            entries.iter().map(|(key, _)| key.place.start as usize).collect();
        if !self.items.is_empty() {
            let Some(Kind::List(items)) = root.get("routes").map(|node| &node.kind) else {
                return false;
            };
            for item in items {
                match dash(text, item.place.start as usize) {
                    Some((start, column)) if column == self.column => starts.push(start),
                    _ => return false,
                }
            }
        }
        starts.sort_unstable();
        self.gaps.iter().all(|gap| starts.binary_search(&(gap.at + gap.removed)).is_ok())
    }
}

/// The line of an item whose content begins here, and the column of its dash, if they share a line.
fn dash(text: &str, content: usize) -> Option<(usize, usize)> {
    let before = text.get(..content)?;
    let start = before.rfind('\n').map_or(0, |newline| newline + 1);
    let line = before[start..].trim_end_matches(' ');
    let column = line.len().checked_sub(1)?;
    let fits = line.ends_with('-') && line[..column].bytes().all(|byte| byte == b' ');
    (fits && before.ends_with(' ')).then_some((start, column))
}

/// Whether the text of an item means the same wherever it stands: it holds nothing that could be an
/// anchor, an alias, a tag or a variable.
fn is_plain(text: &str) -> bool {
    let bytes = text.as_bytes();
    let opens = |byte: u8| matches!(byte, b' ' | b'\t' | b'\r' | b'\n' | b'[' | b'{' | b',' | b':');
    bytes.iter().enumerate().all(|(at, byte)| match byte {
        b'&' | b'*' | b'!' => !at.checked_sub(1).is_none_or(|before| opens(bytes[before])),
        b'$' => bytes.get(at + 1) != Some(&b'{'),
        _ => true,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_could_refer_to_elsewhere_is_not_plain() {
        for (text, plain) in [
            ("- { name: a, match: /a/*, to: b }\n", true),
            ("- { name: a, match: '*.b', to: b }\n", true),
            ("- { name: a, to: b } # $5\n", true),
            ("- { name: a, to: *b }\n", false),
            ("- { name: a, to:*b }\n", false),
            ("- {name: a,match: [*b]}\n", false),
            ("- &a { name: a, to: b }\n", false),
            ("- !t { name: a, to: b }\n", false),
            ("- name: a\n  to:\n*b\n", false),
            ("- { name: a, to: ${B} }\n", false),
            ("- { name: a, to: $${B} }\n", false),
            ("*", false),
        ] {
            assert_eq!(is_plain(text), plain, "{text}");
        }
    }

    #[test]
    fn a_dash_shares_a_line_with_its_content() {
        for (text, expect) in [
            ("a:\n  - b", Some((3, 2))),
            ("a:\n- b", Some((3, 0))),
            ("- b", Some((0, 0))),
            ("a:\n  -   b", Some((3, 2))),
            ("a:\n  -\n    b", None),
            ("a:\n  - - b", None),
            ("a: [ -b", None),
            ("b", None),
        ] {
            assert_eq!(dash(text, text.len() - 1), expect, "{text}");
        }
    }
}
