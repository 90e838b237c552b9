//! Files that a setting names, and secrets, which may stand in one.

use std::{fmt, path::PathBuf, sync::Arc};

use crate::config::{
    problem::Problem,
    secrets,
    setting::{At, Cx, Setting, Shape},
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
        // What a secret holds is the secret, whatever that begins with.
        let path = text.strip_prefix("file:").filter(|_| node.written().is_none());
        let (value, file) = match path {
            None => {
                cx.secrets.push(node.place);
                (text.to_owned(), None)
            }
            Some(path) => {
                let path = cx.path(node, path);
                cx.files.insert(path.clone());
                let read = secrets::read_file(&path)
                    .map_err(|what| {
                        let message = format!("cannot use {}: {what}", path.display());
                        cx.report(Problem::error(node.place, message));
                    })
                    .ok()?;
                (read, Some(path))
            }
        };
        if value.is_empty() {
            cx.report(Problem::error(node.place, "this secret is empty"));
            return None;
        }
        Some(Self { value: value.into(), file })
    }
}
