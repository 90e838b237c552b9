//! Answers of the admin API as tables, by the names of their members.

use serde_json::Value;

use super::admin::{or_dash, table};

/// A table of the objects in a list: each column with the path of the member that it shows.
pub(super) fn columns(list: &Value, shown: &[(&str, &str)]) -> String {
    let header: Vec<&str> = shown.iter().map(|(title, _)| *title).collect();
    let rows = list
        .as_array()
        .map_or(&[][..], Vec::as_slice)
        .iter()
        .map(|row| shown.iter().map(|(_, path)| text(at(row, path))).collect::<Vec<String>>());
    table(&header, rows)
}

/// A line for each member of an object, with what is below it indented by its path.
pub(super) fn members(object: &Value) -> String {
    let mut lines = Vec::new();
    flatten("", object, &mut lines);
    let width = lines.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    lines.iter().map(|(name, value)| format!("{name:<width$}  {value}\n")).collect()
}

fn flatten(path: &str, value: &Value, lines: &mut Vec<(String, String)>) {
    match value {
        Value::Object(below) if !below.is_empty() => {
            for (name, value) in below {
                let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                flatten(&path, value, lines);
            }
        }
        value => lines.push((path.to_owned(), text(value))),
    }
}

/// What stands at a path of names with dots between them.
fn at<'v>(value: &'v Value, path: &str) -> &'v Value {
    path.split('.').fold(value, |value, name| value.get(name).unwrap_or(&Value::Null))
}

fn text(value: &Value) -> String {
    match value {
        Value::Null => or_dash(None),
        Value::String(text) => or_dash(Some(text)),
        Value::Array(items) if items.iter().all(|item| !item.is_object()) => {
            or_dash(Some(&items.iter().map(text).collect::<Vec<_>>().join(", ")))
        }
        value => value.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_missing_is_a_dash_and_what_is_below_is_found() {
        let list = json!([{ "name": "a", "options": { "lease": "30s" } }, { "name": "b" }]);
        let shown = columns(&list, &[("name", "name"), ("lease", "options.lease")]);
        assert_eq!(shown.lines().collect::<Vec<_>>(), ["NAME  LEASE", "a     30s", "b     -"]);
        let shown = members(&json!({ "a": { "b": 1, "c": ["x", "y"] }, "d": null }));
        assert_eq!(shown, "a.b  1\na.c  x, y\nd    -\n");
    }
}
