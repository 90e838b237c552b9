//! Files that a setting names, and secrets, which may stand in one.

use std::{fmt, path::PathBuf, sync::Arc};

use crate::config::{
    problem::Problem,
    setting::{At, Cx, Setting, Shape},
    source::read_bounded,
    tree::{Kind, Node},
};

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

impl At<Secret> {
    /// Warns of a secret that is written out, rather than read from a file or taken from a variable.
    pub fn discourage(&self, cx: &mut Cx) {
        let text = cx.sources.text(self.place).filter(|_| self.place.is_in_file());
        if self.file.is_none() && text.is_some_and(|text| !text.contains("${")) {
            cx.report(
                Problem::warning(self.place, "this secret stands in the configuration itself")
                    .help("write `file:/path/to/secret`, or `${VARIABLE}`"),
            );
        }
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
