//! Name of the topic that an event goes to: text with names of what it has in braces, `outbox.event.{aggregatetype}`.

use std::fmt;

/// The longest name that comes of it.
const BYTES_MAX: usize = 255;

/// Text in which names in braces stand for what an event has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    text: String,
    parts: Vec<Part>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    Name(String),
}

impl Template {
    /// Reads a template.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (mut parts, mut rest) = (Vec::new(), text);
        while let Some((before, behind)) = rest.split_once('{') {
            let (name, after) = behind.split_once('}').ok_or("a `{` is not closed")?;
            if name.is_empty() || name.contains('{') {
                return Err("between `{` and `}` stands the name of a column".into());
            }
            if !before.is_empty() {
                parts.push(Part::Text(before.to_owned()));
            }
            parts.push(Part::Name(name.to_owned()));
            rest = after;
        }
        if !rest.is_empty() {
            parts.push(Part::Text(rest.to_owned()));
        }
        if parts.is_empty() {
            return Err("it is empty".into());
        }
        if parts.iter().any(|part| matches!(part, Part::Text(text) if text.contains('}'))) {
            return Err("a `}` has no `{`".into());
        }
        Ok(Self { text: text.to_owned(), parts })
    }

    /// The one topic that it names, if that depends on no event.
    pub fn fixed(&self) -> Option<&str> {
        match &*self.parts {
            [Part::Text(text)] => Some(text),
            _ => None,
        }
    }

    /// The names that stand in it.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.parts.iter().filter_map(|part| match part {
            Part::Name(name) => Some(&**name),
            Part::Text(_) => None,
        })
    }

    /// The topic of an event, of which `value` tells what it has under a name.
    ///
    /// # Errors
    /// Which name has no value, or that what comes of it is too long.
    pub fn render<'a>(&self, value: impl Fn(&str) -> Option<&'a str>) -> Result<String, String> {
        let mut out = String::with_capacity(64);
        for part in &self.parts {
            match part {
                Part::Text(text) => out.push_str(text),
                Part::Name(name) => {
                    let missing = || format!("its topic needs `{name}`, which it does not have");
                    out.push_str(value(name).filter(|of| !of.is_empty()).ok_or_else(missing)?);
                }
            }
            if out.len() > BYTES_MAX {
                return Err(format!("the name of its topic is longer than {BYTES_MAX} bytes"));
            }
        }
        Ok(out)
    }
}

impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_replaced() {
        let value = |name: &str| match name {
            "kind" => Some("order"),
            "empty" => Some(""),
            "long" => Some("aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"),
            _ => None,
        };
        for (text, expect) in [
            ("orders", Some("orders")),
            ("outbox.event.{kind}", Some("outbox.event.order")),
            ("{kind}.{kind}s", Some("order.orders")),
            ("x.{missing}", None),
            ("x.{empty}", None),
            ("{long}{long}{long}{long}{long}{long}{long}{long}", None),
        ] {
            let template = Template::parse(text).unwrap();
            assert_eq!(template.render(value).ok().as_deref(), expect, "{text}");
            assert_eq!(template.to_string(), text);
        }
        assert_eq!(Template::parse("orders").unwrap().fixed(), Some("orders"));
        assert_eq!(Template::parse("a{b}").unwrap().fixed(), None);
        for text in ["", "{", "a{b", "a}b", "{}", "{a{b}}"] {
            assert!(Template::parse(text).is_err(), "{text}");
        }
    }
}
