//! Arrays of text as PostgreSQL writes them, `{a,"b c",NULL}`, into JSON.

use serde_json::Value;

/// The array in JSON; `None` if the text is no array of one dimension.
pub(crate) fn json(text: &str) -> Option<String> {
    let mut rest = text.strip_prefix('{')?.strip_suffix('}')?.chars().peekable();
    let mut values = Vec::new();
    while rest.peek().is_some() {
        if !values.is_empty() && rest.next()? != ',' {
            return None;
        }
        let (mut value, mut is_quoted) = (String::new(), false);
        if rest.next_if_eq(&'"').is_some() {
            is_quoted = true;
            loop {
                match rest.next()? {
                    '"' => break,
                    '\\' => value.push(rest.next()?),
                    other => value.push(other),
                }
            }
        } else {
            while let Some(other) = rest.next_if(|other| *other != ',') {
                match other {
                    '\\' => value.push(rest.next()?),
                    '{' | '}' | '"' => return None,
                    other => value.push(other),
                }
            }
            if value.is_empty() {
                return None;
            }
        }
        let is_null = !is_quoted && value.eq_ignore_ascii_case("null");
        values.push(if is_null { Value::Null } else { Value::String(value) });
    }
    serde_json::to_string(&values).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrays_become_json() {
        for (text, expect) in [
            ("{}", Some("[]")),
            ("{a}", Some(r#"["a"]"#)),
            ("{a,b c,NULL}", Some(r#"["a","b c",null]"#)),
            (r#"{"a,b","NULL","","ä\"\\"}"#, Some(r#"["a,b","NULL","","ä\"\\"]"#)),
            ("{{a},{b}}", None),
            ("{a", None),
            (r#"{"a}"#, None),
            ("{a,}", None),
            ("[0:1]={a,b}", None),
            ("", None),
        ] {
            assert_eq!(json(text).as_deref(), expect, "{text}");
        }
    }
}
