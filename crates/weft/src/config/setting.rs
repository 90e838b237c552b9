//! What a setting is: how it is read, what it may be, and what stands in when it is left out.
//!
//! One table per section ([`Table`], written with the `settings!` macro) is the only source of key
//! names, types, defaults and words; reading, validation, near misses, the JSON Schema, the reference
//! page and `weft config` are views of it.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{
    leaf::FilePath,
    problem::Problem,
    source::{Place, Sources},
    tree::{Kind, Node},
};

/// What a setting may be.
#[derive(Clone, Debug)]
pub enum Shape {
    /// `true` or `false`.
    Bool,
    /// A whole number within bounds.
    Int {
        /// The smallest.
        min: u64,
        /// The largest.
        max: u64,
    },
    /// A number within bounds.
    Number {
        /// The smallest.
        min: f64,
        /// The largest.
        max: f64,
    },
    /// A text with a form of its own.
    Text {
        /// What it is, for the reference: `duration`, `size`, `host`.
        what: &'static str,
        /// A regular expression for editors.
        pattern: Option<&'static str>,
    },
    /// One of these words.
    Words(&'static [(&'static str, &'static str)]),
    /// A secret, never shown.
    Secret,
    /// A list.
    List(Box<Shape>),
    /// A list, or a single item.
    Many(Box<Shape>),
    /// A map by names of the user's choice.
    Map {
        /// What the keys are.
        key: &'static str,
        /// What the values are.
        value: Box<Shape>,
    },
    /// A section with a table of its own.
    Section(&'static Table),
    /// This, or `off`.
    Switch(Box<Shape>),
    /// One of several forms.
    Either(Vec<Shape>),
    /// A text, or any other value.
    Any,
}

/// What stands in for a setting that is left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Absent {
    /// Nothing: it must be there.
    Required,
    /// It has no effect.
    Unset,
    /// An empty list or map.
    Empty,
    /// A section of defaults.
    Defaults,
}

/// A section.
#[derive(Debug)]
pub struct Table {
    /// What it is called in the reference and the schema.
    pub name: &'static str,
    /// What it is.
    pub about: &'static str,
    /// The key that a bare value, in place of the section, stands for.
    pub short: Option<&'static str>,
    /// Its keys.
    pub fields: &'static [Field],
    /// A section whose keys may be written here as well.
    pub with: Option<&'static Self>,
}

/// A key of a section.
#[derive(Clone, Copy)]
pub struct Field {
    /// The key.
    pub key: &'static str,
    /// What it does, with its unit.
    pub about: &'static str,
    /// What it may be.
    pub shape: &'static (dyn Fn() -> Shape + Send + Sync),
    /// What stands in for it without a default.
    pub absent: Absent,
    /// Its default, as it would be written.
    pub default: Option<&'static str>,
}

impl std::fmt::Debug for Field {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Field").field("key", &self.key).finish_non_exhaustive()
    }
}

impl Field {
    /// Whether the section is refused without it.
    pub fn required(&self) -> bool {
        self.default.is_none() && self.absent == Absent::Required
    }
}

impl Table {
    /// The key of this name, also one of the section that may be written here.
    pub fn field(&self, key: &str) -> Option<&'static Field> {
        let own = self.fields.iter().find(|field| field.key == key);
        own.or_else(|| self.with.and_then(|with| with.field(key)))
    }

    /// Every key that may be written here.
    pub fn keys(&self) -> impl Iterator<Item = &'static str> {
        let with = self.with.map_or(&[][..], |with| with.fields);
        self.fields.iter().chain(with).map(|field| field.key)
    }

    /// Whether it may be left out as a whole; for tables that are built at compile time.
    pub const fn absent(fields: &[Field]) -> Absent {
        let mut at = 0;
        while at < fields.len() {
            if fields[at].default.is_none() && matches!(fields[at].absent, Absent::Required) {
                return Absent::Required;
            }
            at += 1;
        }
        Absent::Defaults
    }
}

/// A value that can be read from a configuration.
pub trait Setting: Clone + Send + Sync + 'static {
    /// What stands in for it when it is left out.
    const ABSENT: Absent = Absent::Required;

    /// What it may be.
    fn shape() -> Shape;

    /// Reads it; `None` when it cannot be, which has then been reported.
    fn read(node: &Node, cx: &mut Cx) -> Option<Self>;

    /// The value that stands in for it, unless it must be there.
    fn absent() -> Option<Self> {
        None
    }
}

/// What reading needs beside the node: where files lie, and where problems go.
#[derive(Debug, Default)]
pub struct Cx {
    /// The files of the configuration.
    pub sources: Arc<Sources>,
    /// What was wrong so far.
    pub problems: Vec<Problem>,
    /// Files that the configuration refers to.
    pub files: BTreeSet<PathBuf>,
    /// Where secrets stand written out, so that no excerpt shows them.
    pub secrets: Vec<Place>,
}

impl Cx {
    /// Reports a problem.
    pub fn report(&mut self, problem: Problem) {
        self.problems.push(problem);
    }

    /// Reports that something else was expected than what stands here.
    pub fn expected(&mut self, node: &Node, what: &str) {
        if !matches!(node.kind, Kind::Bad) {
            self.report(Problem::error(
                node.place,
                format!("expected {what}, found {}", node.about()),
            ));
        }
    }

    /// The text of a scalar, or a report that `what` was expected.
    pub fn text<'n>(&mut self, node: &'n Node, what: &str) -> Option<&'n str> {
        let text = node.text();
        if text.is_none() {
            self.expected(node, what);
        }
        text
    }

    /// A path as it is written, relative to the folder of the file that it stands in.
    pub fn path(&self, node: &Node, text: &str) -> PathBuf {
        let folder = self.sources.file(node.place).and_then(|file| file.path.parent());
        folder.unwrap_or(Path::new("")).join(text)
    }

    /// A path that is there. A default, which stands in no file, is relative to the folder of the first
    /// file of the configuration.
    pub fn beside(&self, path: &At<FilePath>) -> PathBuf {
        let first = self.sources.files().first().filter(|_| !path.place.is_in_file());
        let folder = first.and_then(|file| file.path.parent());
        folder.unwrap_or(Path::new("")).join(&path.value.0)
    }

    /// The node as a section of this table, its short form unfolded; unknown keys are reported.
    pub fn section(&mut self, node: &Node, table: &'static Table) -> Option<Node> {
        match &node.kind {
            Kind::Map(entries) => {
                for (key, _) in entries {
                    if table.field(&key.text).is_none() {
                        self.report(
                            Problem::error(
                                key.place,
                                format!("{} has no key `{}`", table.name, key.text),
                            )
                            .near(&key.text, table.keys()),
                        );
                    }
                }
                // Only sections are cloned lazily: callers look fields up in the original.
                None
            }
            Kind::Null => Some(Node { place: node.place, kind: Kind::Map(Vec::new()) }),
            Kind::Bad => Some(node.clone()),
            _ => match unfold(node, table) {
                Some(unfolded) => Some(unfolded),
                None => {
                    self.expected(node, &format!("a map of {} settings", table.name));
                    Some(Node { place: node.place, kind: Kind::Bad })
                }
            },
        }
    }

    /// Reads a field of a section.
    pub fn field<T: Setting>(
        &mut self,
        section: &Node,
        key: &'static str,
        about: &str,
        default: Option<fn() -> Option<T>>,
    ) -> Option<T> {
        match section.get(key) {
            Some(node) if !matches!(node.kind, Kind::Null) => T::read(node, self),
            found => match default.map_or_else(T::absent, |default| default()) {
                Some(value) => Some(value),
                None => {
                    let place = found.map_or(section.place, |node| {
                        if node.place.start == node.place.end { section.place } else { node.place }
                    });
                    let first = about.lines().next().unwrap_or("").trim();
                    self.report(Problem::error(place, format!("`{key}` is missing")).help(first));
                    None
                }
            },
        }
    }
}

/// The short form of a section, unfolded.
pub fn unfold(node: &Node, table: &'static Table) -> Option<Node> {
    let short = table.short?;
    let fits = match (&node.kind, (table.field(short)?.shape)()) {
        (Kind::Text(_), _) => true,
        (Kind::List(_), shape) => matches!(shape, Shape::List(_) | Shape::Many(_)),
        _ => false,
    };
    fits.then(|| {
        let key = super::tree::Key { text: short.into(), place: node.place };
        Node { place: node.place, kind: Kind::Map(vec![(key, node.clone())]) }
    })
}

/// A value together with its place.
#[derive(Clone, Debug, PartialEq)]
pub struct At<T> {
    /// The value.
    pub value: T,
    /// Where it stands.
    pub place: Place,
}

impl<T> std::ops::Deref for At<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T: Setting> Setting for At<T> {
    const ABSENT: Absent = T::ABSENT;

    fn shape() -> Shape {
        T::shape()
    }

    fn read(node: &Node, cx: &mut Cx) -> Option<Self> {
        T::read(node, cx).map(|value| Self { value, place: node.place })
    }

    fn absent() -> Option<Self> {
        T::absent().map(|value| Self { value, place: Place::BUILT_IN })
    }
}

/// Reads a default of ours.
pub fn built_in<T: Setting>(text: &str) -> Option<T> {
    T::read(&super::tree::parse_built_in(text), &mut Cx::default())
}

/// Declares sections: a struct each, and the table that everything else is a view of.
///
/// `key: Type = "default"` has a default as it would be written; without one the type decides what
/// stands in. `field("key")` names a key that is no identifier. `short "key"` says which key a bare
/// value stands for, `with Other` that the keys of another section may be written here too.
macro_rules! settings {
    ($($(#[doc = $about:literal])+ $vis:vis struct $name:ident $(= $title:literal)? $(, short $short:literal)? $(, with $with:ident)? {
        $($(#[doc = $field_about:literal])+ $field:ident $(($key:literal))? : $ty:ty $(= $default:literal)?,)*
    })+) => {$(
        $(#[doc = $about])+
        #[derive(Clone, Debug)]
        #[allow(missing_docs, reason = "the table holds the words")]
        $vis struct $name {
            $(pub $field: $ty,)*
            /// Where the section stands.
            pub place: $crate::config::source::Place,
        }

        impl $name {
            const FIELDS: &'static [$crate::config::setting::Field] = &[$($crate::config::setting::Field {
                key: settings!(@key $field $($key)?),
                about: concat!($($field_about, "\n"),+),
                shape: &<$ty as $crate::config::setting::Setting>::shape,
                absent: <$ty as $crate::config::setting::Setting>::ABSENT,
                default: settings!(@option $($default)?),
            },)*];

            /// Reads the fields of a section whose keys have been checked.
            pub(crate) fn fields_of(
                section: &$crate::config::tree::Node,
                cx: &mut $crate::config::setting::Cx,
            ) -> Option<Self> {
                // Every field is read before any is missed, so that all problems are told at once.
                $(let $field = cx.field::<$ty>(
                    section,
                    settings!(@key $field $($key)?),
                    concat!($($field_about, "\n"),+),
                    settings!(@default $ty $(, $default)?),
                );)*
                Some(Self { $($field: $field?,)* place: section.place })
            }

            /// What may be written, and what it means.
            $vis const TABLE: &'static $crate::config::setting::Table = &$crate::config::setting::Table {
                name: settings!(@title $name $($title)?),
                about: concat!($($about, "\n"),+),
                short: settings!(@option $($short)?),
                fields: Self::FIELDS,
                with: settings!(@with $($with)?),
            };
        }

        impl $crate::config::setting::Setting for $name {
            const ABSENT: $crate::config::setting::Absent =
                $crate::config::setting::Table::absent(Self::FIELDS);

            fn shape() -> $crate::config::setting::Shape {
                $crate::config::setting::Shape::Section(Self::TABLE)
            }

            fn read(
                node: &$crate::config::tree::Node,
                cx: &mut $crate::config::setting::Cx,
            ) -> Option<Self> {
                let unfolded = cx.section(node, Self::TABLE);
                let section = unfolded.as_ref().unwrap_or(node);
                if matches!(section.kind, $crate::config::tree::Kind::Bad) {
                    return None;
                }
                Self::fields_of(section, cx)
            }

            fn absent() -> Option<Self> {
                static ABSENT: std::sync::OnceLock<Option<$name>> = std::sync::OnceLock::new();
                ABSENT
                    .get_or_init(|| {
                        let empty = $crate::config::tree::Kind::Map(Vec::new());
                        let node = $crate::config::tree::Node::built_in(empty);
                        <$name as $crate::config::setting::Setting>::read(
                            &node,
                            &mut $crate::config::setting::Cx::default(),
                        )
                    })
                    .clone()
            }
        }
    )+};
    (@key $field:ident) => { stringify!($field) };
    (@key $field:ident $key:literal) => { $key };
    (@title $name:ident) => { stringify!($name) };
    (@title $name:ident $title:literal) => { $title };
    (@option) => { None };
    (@option $value:literal) => { Some($value) };
    (@with) => { None };
    (@with $with:ident) => { Some($with::TABLE) };
    (@default $ty:ty) => { None };
    (@default $ty:ty, $default:literal) => {
        Some(|| {
            static DEFAULT: std::sync::OnceLock<Option<$ty>> = std::sync::OnceLock::new();
            DEFAULT
                .get_or_init(|| $crate::config::setting::built_in::<$ty>($default))
                .clone()
        })
    };
}
pub(crate) use settings;

/// Declares an enumeration whose values are words.
macro_rules! words {
    ($($(#[doc = $about:literal])+ $vis:vis enum $name:ident {
        $($(#[doc = $word_about:literal])+ $variant:ident = $word:literal $(| $other:literal)*,)+
    })+) => {$(
        $(#[doc = $about])+
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        $vis enum $name { $($(#[doc = $word_about])+ $variant,)+ }

        impl $name {
            /// The word, as it is written.
            #[allow(dead_code, reason = "most words are read alone")]
            $vis const fn word(self) -> &'static str {
                match self { $(Self::$variant => $word,)+ }
            }
        }

        impl $crate::config::setting::Setting for $name {
            fn shape() -> $crate::config::setting::Shape {
                $crate::config::setting::Shape::Words(
                    &[$(($word, concat!($($word_about),+)),)+],
                )
            }

            fn read(
                node: &$crate::config::tree::Node,
                cx: &mut $crate::config::setting::Cx,
            ) -> Option<Self> {
                let words = [$($word,)+];
                let text = cx.text(node, &format!("one of {}", words.join(", ")))?;
                match text {
                    $($word $(| $other)* => Some(Self::$variant),)+
                    _ => {
                        let message = format!("expected one of {}, found `{text}`", words.join(", "));
                        let problem = $crate::config::problem::Problem::error(node.place, message);
                        cx.report(match $crate::config::problem::nearest(text, &words) {
                            Some(near) => problem.help(format!("did you mean `{near}`?")),
                            None => problem,
                        });
                        None
                    }
                }
            }
        }
    )+};
}
pub(crate) use words;
