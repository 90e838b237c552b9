//! Certificates and keys: a path, or PEM text right in the configuration.

use weft_identity::Pem;

use super::{
    leaf::InputFile,
    problem::Problem,
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
            if text.contains("PRIVATE KEY") || node.written().is_some() {
                cx.secrets.push(node.place);
            }
            return Some(Self::Inline(text.into()));
        }
        if let Some(written) = node.written() {
            cx.secrets.push(node.place);
            let what = format!("`{written}` holds no PEM text");
            cx.report(Problem::error(node.place, what));
            return None;
        }
        // `file:` is what secrets are written with, and means the same here.
        let path = text.strip_prefix("file:").unwrap_or(text);
        let text = Text::new(path);
        InputFile::read(&Node { place: node.place, kind: Kind::Text(text) }, cx)
            .map(|file| Self::File(file.0))
    }
}
