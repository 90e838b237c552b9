//! The plain types of settings: numbers, durations, sizes, lists, maps, switches, files and secrets.

use std::{fmt, path::PathBuf, sync::Arc, time::Duration};

use weft_kernel::{ByteSize, Name, parse_duration};

use super::{
    problem::Problem,
    setting::{Absent, At, Cx, Setting, Shape},
    source::read_bounded,
    tree::{Kind, Node},
};

impl Setting for bool {
    fn shape() -> Shape {
        Shape::Bool
    }

    fn read(node: &Node, cx: &mut Cx) -> Option<Self> {
        match cx.text(node, "true or false")? {
            "true" | "True" | "TRUE" => Some(true),
            "false" | "False" | "FALSE" => Some(false),
            text => {
                let problem =
                    Problem::error(node.place, format!("expected true or false, found `{text}`"));
                cx.report(match text {
                    "yes" | "on" | "y" | "1" => problem.help("write `true`"),
                    "no" | "off" | "n" | "0" => problem.help("write `false`"),
                    _ => problem,
                });
                None
            }
        }
    }
}

fn whole(node: &Node, cx: &mut Cx, min: u64, max: u64) -> Option<u64> {
    let what = if max >= u64::from(u32::MAX) {
        format!("a whole number of at least {min}")
    } else {
        format!("a whole number from {min} to {max}")
    };
    let text = cx.text(node, &what)?;
    match text.replace('_', "").parse::<u64>() {
        Ok(number) if (min..=max).contains(&number) => Some(number),
        _ => {
            cx.expected(node, &what);
            None
        }
    }
}

/// A whole number from `MIN` to `MAX`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Int<const MIN: u64, const MAX: u64>(pub u64);

impl<const MIN: u64, const MAX: u64> Int<MIN, MAX> {
    /// The number, saturating.
    pub fn u32(self) -> u32 {
        u32::try_from(self.0).unwrap_or(u32::MAX)
    }

    /// The number, saturating.
    pub fn u16(self) -> u16 {
        u16::try_from(self.0).unwrap_or(u16::MAX)
    }

    /// The number, saturating.
    pub fn usize(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

impl<const MIN: u64, const MAX: u64> Setting for Int<MIN, MAX> {
    fn shape() -> Shape {
        Shape::Int { min: MIN, max: MAX }
    }

    fn read(node: &Node, cx: &mut Cx) -> Option<Self> {
        whole(node, cx, MIN, MAX).map(Self)
    }
}

/// A number that counts something: 1 to four thousand millions.
pub type Count = Int<1, { u32::MAX as u64 }>;
/// A number that may be nought.
pub type Number = Int<0, { u32::MAX as u64 }>;
/// A port.
pub type Port = Int<1, 65_535>;

/// A number from `MIN` to `MAX` thousandths.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Fraction<const MIN: u64, const MAX: u64>(pub f64);

/// A share, 0 to 1; it may be written as a percentage.
pub type Share = Fraction<0, 1_000>;
/// A factor, 0 to a million.
pub type Factor = Fraction<0, 1_000_000_000>;

impl<const MIN: u64, const MAX: u64> Setting for Fraction<MIN, MAX> {
    fn shape() -> Shape {
        Shape::Number { min: MIN as f64 / 1_000.0, max: MAX as f64 / 1_000.0 }
    }

    fn read(node: &Node, cx: &mut Cx) -> Option<Self> {
        let (min, max) = (MIN as f64 / 1_000.0, MAX as f64 / 1_000.0);
        let what = format!("a number from {min} to {max}");
        let text = cx.text(node, &what)?;
        let number = match text.strip_suffix('%') {
            Some(percent) => percent.trim().parse::<f64>().map(|number| number / 100.0),
            None => text.parse::<f64>(),
        };
        match number {
            Ok(number) if (min..=max).contains(&number) => Some(Self(number)),
            _ => {
                cx.expected(node, &what);
                None
            }
        }
    }
}

const DURATION: Option<&str> = Some(r"^(0|([0-9.]+(ns|us|ms|s|m|h|d))+)$");

impl Setting for Duration {
    fn shape() -> Shape {
        Shape::Text { what: "duration", pattern: DURATION }
    }

    fn read(node: &Node, cx: &mut Cx) -> Option<Self> {
        let text = cx.text(node, "a duration such as 250ms")?;
        parse_duration(text)
            .map_err(|error| cx.report(Problem::error(node.place, error.to_string())))
            .ok()
    }
}

/// A duration of which zero makes no sense.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span(pub Duration);

impl Setting for Span {
    fn shape() -> Shape {
        Duration::shape()
    }

    fn read(node: &Node, cx: &mut Cx) -> Option<Self> {
        let span = Duration::read(node, cx)?;
        if span.is_zero() {
            cx.report(Problem::error(node.place, "this duration must be longer than nothing"));
            return None;
        }
        Some(Self(span))
    }
}

impl Setting for ByteSize {
    fn shape() -> Shape {
        Shape::Text { what: "size", pattern: Some(r"^[0-9.]+ ?([KMGT]i?B|kB|B)?$") }
    }

    fn read(node: &Node, cx: &mut Cx) -> Option<Self> {
        let text = cx.text(node, "a size such as 64KiB")?;
        text.parse()
            .map_err(|error: weft_kernel::units::ParseUnitError| {
                cx.report(Problem::error(node.place, error.to_string()));
            })
            .ok()
    }
}

impl Setting for Name {
    fn shape() -> Shape {
        Shape::Text { what: "name", pattern: Some(r"^[A-Za-z0-9][A-Za-z0-9._/-]{0,127}$") }
    }

    fn read(node: &Node, cx: &mut Cx) -> Option<Self> {
        let text = cx.text(node, "a name")?;
        Self::new(text)
            .map_err(|error| cx.report(Problem::error(node.place, error.to_string())))
            .ok()
    }
}

impl Setting for String {
    fn shape() -> Shape {
        Shape::Text { what: "text", pattern: None }
    }

    fn read(node: &Node, cx: &mut Cx) -> Option<Self> {
        cx.text(node, "text").map(Into::into)
    }
}

impl<T: Setting> Setting for Option<T> {
    const ABSENT: Absent = Absent::Unset;

    fn shape() -> Shape {
        T::shape()
    }

    fn read(node: &Node, cx: &mut Cx) -> Option<Self> {
        if matches!(node.kind, Kind::Null) { Some(None) } else { T::read(node, cx).map(Some) }
    }

    fn absent() -> Option<Self> {
        Some(None)
    }
}

/// Something that can be turned off with the word `off`.
#[derive(Clone, Debug, PartialEq)]
pub enum Switch<T> {
    /// It is not done.
    Off,
    /// It is done so.
    On(T),
}

impl<T> Switch<T> {
    /// How it is done, unless it is off.
    pub fn on(&self) -> Option<&T> {
        match self {
            Self::On(value) => Some(value),
            Self::Off => None,
        }
    }
}

/// Whether a node turns something off.
pub fn is_off(node: &Node) -> bool {
    matches!(node.text(), Some("off" | "false" | "Off" | "OFF"))
}

impl<T: Setting> Setting for Switch<T> {
    const ABSENT: Absent = T::ABSENT;

    fn shape() -> Shape {
        Shape::Switch(Box::new(T::shape()))
    }

    fn read(node: &Node, cx: &mut Cx) -> Option<Self> {
        if is_off(node) {
            return Some(Self::Off);
        }
        // `on`, with every default, where there is one for everything.
        if matches!(node.text(), Some("on" | "true"))
            && let Some(value) = T::absent()
        {
            return Some(Self::On(value));
        }
        T::read(node, cx).map(Self::On)
    }

    fn absent() -> Option<Self> {
        T::absent().map(Self::On)
    }
}

impl<T: Setting> Setting for Vec<T> {
    const ABSENT: Absent = Absent::Empty;

    fn shape() -> Shape {
        Shape::List(Box::new(T::shape()))
    }

    fn read(node: &Node, cx: &mut Cx) -> Option<Self> {
        match &node.kind {
            Kind::List(items) => items_of(items, cx),
            Kind::Null => Some(Self::new()),
            _ => {
                cx.expected(node, "a list");
                None
            }
        }
    }

    fn absent() -> Option<Self> {
        Some(Self::new())
    }
}

/// Reads each item, the rest also when one cannot be.
fn items_of<T: Setting>(items: &[Node], cx: &mut Cx) -> Option<Vec<T>> {
    let mut all = true;
    let mut values = Vec::with_capacity(items.len());
    for item in items {
        match T::read(item, cx) {
            Some(value) => values.push(value),
            None => all = false,
        }
    }
    all.then_some(values)
}

/// A list whose brackets may be left out around a single item.
#[derive(Clone, Debug, PartialEq)]
pub struct Many<T>(pub Vec<T>);

impl<T> std::ops::Deref for Many<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        &self.0
    }
}

impl<T: Setting> Setting for Many<T> {
    const ABSENT: Absent = Absent::Empty;

    fn shape() -> Shape {
        Shape::Many(Box::new(T::shape()))
    }

    fn read(node: &Node, cx: &mut Cx) -> Option<Self> {
        match &node.kind {
            Kind::List(items) => items_of(items, cx).map(Self),
            Kind::Null => Some(Self(Vec::new())),
            _ => T::read(node, cx).map(|value| Self(vec![value])),
        }
    }

    fn absent() -> Option<Self> {
        Some(Self(Vec::new()))
    }
}

/// A list that must hold something; its brackets may be left out around a single item.
#[derive(Clone, Debug, PartialEq)]
pub struct Some1<T>(pub Vec<T>);

impl<T> std::ops::Deref for Some1<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        &self.0
    }
}

impl<T: Setting> Setting for Some1<T> {
    fn shape() -> Shape {
        Shape::Many(Box::new(T::shape()))
    }

    fn read(node: &Node, cx: &mut Cx) -> Option<Self> {
        let Many(items) = Many::read(node, cx)?;
        if items.is_empty() {
            cx.report(Problem::error(node.place, "this list is empty"));
            return None;
        }
        Some(Self(items))
    }
}

/// A section that a later policy replaces as a whole, since its keys exclude each other.
#[derive(Clone, Debug, PartialEq)]
pub struct Whole<T>(pub T);

impl<T: Setting> Setting for Whole<T> {
    fn shape() -> Shape {
        Shape::Either(vec![T::shape()])
    }

    fn read(node: &Node, cx: &mut Cx) -> Option<Self> {
        T::read(node, cx).map(Self)
    }
}

/// Things by the names that the user gives them, in the order of the file.
#[derive(Clone, Debug)]
pub struct Named<T>(pub Vec<(At<Name>, T)>);

impl<T: Setting> Setting for Named<T> {
    const ABSENT: Absent = Absent::Empty;

    fn shape() -> Shape {
        Shape::Map { key: "name", value: Box::new(T::shape()) }
    }

    fn read(node: &Node, cx: &mut Cx) -> Option<Self> {
        match &node.kind {
            Kind::Map(entries) => {
                let mut values = Vec::with_capacity(entries.len());
                for (key, value) in entries {
                    let name = Name::new(&key.text)
                        .map_err(|error| cx.report(Problem::error(key.place, error.to_string())));
                    // Without a body, the reader of the value says what is missing, at the name.
                    let bare = Node { place: key.place, kind: Kind::Map(Vec::new()) };
                    let body = if matches!(value.kind, Kind::Null) { &bare } else { value };
                    if let (Ok(name), Some(value)) = (name, T::read(body, cx)) {
                        values.push((At { value: name, place: key.place }, value));
                    }
                }
                Some(Self(values))
            }
            Kind::Null => Some(Self(Vec::new())),
            _ => {
                cx.expected(node, "a map by name");
                None
            }
        }
    }

    fn absent() -> Option<Self> {
        Some(Self(Vec::new()))
    }
}

/// A map from texts of the user's choice.
#[derive(Clone, Debug, PartialEq)]
pub struct Pairs<K, V>(pub Vec<(K, V)>);

impl<K: Setting, V: Setting> Setting for Pairs<K, V> {
    const ABSENT: Absent = Absent::Empty;

    fn shape() -> Shape {
        let key = match K::shape() {
            Shape::Text { what, .. } => what,
            _ => "text",
        };
        Shape::Map { key, value: Box::new(V::shape()) }
    }

    fn read(node: &Node, cx: &mut Cx) -> Option<Self> {
        match &node.kind {
            Kind::Map(entries) => {
                let mut all = true;
                let mut values = Vec::with_capacity(entries.len());
                for (key, value) in entries {
                    let text = super::tree::Text { text: Arc::clone(&key.text), variable: None };
                    let key = K::read(&Node { place: key.place, kind: Kind::Text(text) }, cx);
                    match (key, V::read(value, cx)) {
                        (Some(key), Some(value)) => values.push((key, value)),
                        _ => all = false,
                    }
                }
                all.then_some(Self(values))
            }
            Kind::Null => Some(Self(Vec::new())),
            _ => {
                cx.expected(node, "a map");
                None
            }
        }
    }

    fn absent() -> Option<Self> {
        Some(Self(Vec::new()))
    }
}

/// A path to a file, relative to the folder of the configuration file that names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FilePath(pub PathBuf);

impl Setting for FilePath {
    fn shape() -> Shape {
        Shape::Text { what: "path", pattern: None }
    }

    fn read(node: &Node, cx: &mut Cx) -> Option<Self> {
        let text = cx.text(node, "a path")?;
        if text.is_empty() || text.contains('\0') {
            cx.expected(node, "a path");
            return None;
        }
        Some(Self(cx.path(node, text)))
    }
}

/// A path to a file that must be there; changes of it are watched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InputFile(pub PathBuf);

impl Setting for InputFile {
    fn shape() -> Shape {
        FilePath::shape()
    }

    fn read(node: &Node, cx: &mut Cx) -> Option<Self> {
        let FilePath(path) = FilePath::read(node, cx)?;
        cx.files.insert(path.clone());
        if path.is_file() {
            return Some(Self(path));
        }
        cx.report(Problem::error(node.place, format!("there is no file at {}", path.display())));
        None
    }
}

/// The largest file that a secret is read from.
const SECRET_BYTES_MAX: u64 = 64 * 1024;

/// A secret: the text itself, or `file:PATH`; it never shows itself.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret {
    value: Arc<str>,
    /// The file that it was read from; `None` when it stands in the configuration.
    pub file: Option<PathBuf>,
}

impl Secret {
    /// The secret.
    pub fn reveal(&self) -> &str {
        &self.value
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl Setting for Secret {
    fn shape() -> Shape {
        Shape::Secret
    }

    fn read(node: &Node, cx: &mut Cx) -> Option<Self> {
        let Some(text) = node.text() else {
            // The value itself is never named.
            if !matches!(node.kind, Kind::Bad) {
                cx.report(Problem::error(node.place, "expected text or `file:PATH`"));
            }
            return None;
        };
        let (value, file) = match text.strip_prefix("file:") {
            None => {
                cx.secrets.push(node.place);
                (text.to_owned(), None)
            }
            Some(path) => {
                let path = cx.path(node, path);
                cx.files.insert(path.clone());
                let read = read_bounded(&path, SECRET_BYTES_MAX)
                    .and_then(|bytes| {
                        String::from_utf8(bytes)
                            .map_err(|_error| "this is not UTF-8 text".to_owned())
                    })
                    .map_err(|what| {
                        let message = format!("cannot use {}: {what}", path.display());
                        cx.report(Problem::error(node.place, message));
                    })
                    .ok()?;
                (read.trim_end_matches(['\r', '\n']).to_owned(), Some(path))
            }
        };
        if value.is_empty() {
            cx.report(Problem::error(node.place, "this secret is empty"));
            return None;
        }
        Some(Self { value: value.into(), file })
    }
}
