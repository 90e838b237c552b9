//! Claims as a service is told them in fields.
//!
//! A field holds one line of text, which its reader takes blanks off and may split at commas. So a claim is told only
//! if it can be told from every other one: what would read as something else is left out, as a claim that is not there
//! is. Another gateway encodes such values (Envoy writes lists and objects as Base64 of JSON); a service that does not
//! know of that takes the encoded text for the value.

use std::borrow::Cow;

use serde_json::Value;

use super::bearer::{AccessToken, Bearer};

impl Bearer {
    /// Values of the fields that tell the service claims; a list has commas between its texts.
    pub(super) fn told<'a>(
        &'a self,
        token: &'a AccessToken,
    ) -> impl Iterator<Item = (&'a str, Cow<'a, str>)> {
        self.tell
            .iter()
            .filter_map(|(name, claim)| Some((&**name, text(token.claims().get(claim)?)?)))
    }
}

/// A claim as the text of a field; `None` if it cannot be one.
fn text(claim: &Value) -> Option<Cow<'_, str>> {
    match claim {
        Value::String(text) => is_plain(text).then_some(Cow::Borrowed(text)),
        Value::Number(_) | Value::Bool(_) => Some(claim.to_string().into()),
        Value::Array(list) if !list.is_empty() => {
            let of = |it: &Value| {
                let member = it.as_str().filter(|text| is_plain(text) && !text.contains(','));
                member.map(str::to_owned)
            };
            let members = list.iter().map(of).collect::<Option<Vec<_>>>()?;
            Some(members.join(",").into())
        }
        Value::Array(_) | Value::Null | Value::Object(_) => None,
    }
}

/// Whether a text is read as it is written: it is not empty, and has no control characters, and no blanks at its edges.
fn is_plain(text: &str) -> bool {
    !text.is_empty() && text.trim() == text && !text.chars().any(char::is_control)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_told_of_a_claim() {
        for (claim, expected) in [
            (json!("ada"), Some("ada")),
            (json!("Ada Lovelace, Countess"), Some("Ada Lovelace, Countess")),
            (json!("Åsa"), Some("Åsa")),
            (json!(7), Some("7")),
            (json!(true), Some("true")),
            (json!(["a", "b c"]), Some("a,b c")),
            (json!(["a"]), Some("a")),
            // One group is not two.
            (json!(["a,admin"]), None),
            (json!(["a", "b,c"]), None),
            (json!(["a", ""]), None),
            (json!(["a", " b"]), None),
            (json!(["a", 7]), None),
            (json!(["a", null]), None),
            (json!([["a"]]), None),
            (json!([]), None),
            (json!({}), None),
            (json!(null), None),
            (json!(""), None),
            (json!(" admin"), None),
            (json!("admin\t"), None),
            (json!("admin\u{a0}"), None),
            (json!("a\r\nx-admin: yes"), None),
            (json!("a\u{0}"), None),
            (json!("a\u{7f}b"), None),
            (json!("a\u{85}b"), None),
        ] {
            assert_eq!(text(&claim).as_deref(), expected, "{claim}");
        }
    }
}
