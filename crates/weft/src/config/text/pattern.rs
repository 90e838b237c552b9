//! Regular expressions.

use super::texts;
use crate::config::{
    problem::Problem,
    setting::{Cx, Setting, Shape},
    tree::Node,
};

/// A regular expression that compiles.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern(pub String);

texts! {
    Pattern, "regular expression", None, |text| match regex::Regex::new(text) {
        Ok(_) => Ok(Self(text.to_owned())),
        Err(error) => Err(format!("this regular expression does not compile: {}", last_line(&error))),
    };
}

fn last_line(error: &regex::Error) -> String {
    let text = error.to_string();
    let line = text.lines().last().unwrap_or("").trim();
    line.strip_prefix("error: ").unwrap_or(line).to_owned()
}
