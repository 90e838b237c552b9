//! Certificates and keys: a path, or PEM text right in the configuration.

use weft_identity::Pem;

use super::{
    leaf::InputFile,
    setting::{Cx, Setting, Shape},
    tree::{Kind, Node, Text},
};

impl Setting for Pem {
    fn shape() -> Shape {
        Shape::Text { what: "path or PEM text", pattern: None }
    }

    fn read(node: &Node, cx: &mut Cx) -> Option<Self> {
        let text = cx.text(node, "a path or PEM text")?;
        if text.contains("-----BEGIN ") {
            if text.contains("PRIVATE KEY") {
                cx.secrets.push(node.place);
            }
            return Some(Self::Inline(text.into()));
        }
        // `file:` is what secrets are written with, and means the same here.
        let path = text.strip_prefix("file:").unwrap_or(text);
        let text = Text::new(path);
        InputFile::read(&Node { place: node.place, kind: Kind::Text(text) }, cx)
            .map(|file| Self::File(file.0))
    }
}
