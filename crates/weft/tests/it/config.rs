//! Configuration: what is accepted, what is refused and how that is told.

mod agree;
mod compiled;
mod files;
mod fuzz;
mod golden;
mod kept;
mod secrets;
mod views;
mod watch;

use std::path::Path;

use weft::config::{Loaded, Loader, Refused, report};

/// Loads a text; variables are those that the tests agree on.
pub(crate) fn load(text: &str) -> Result<Loaded, Box<Refused>> {
    Loader::default().load_text(Path::new("weft.yaml"), text, &variables)
}

pub(crate) fn variables(name: &str) -> Option<String> {
    match name {
        "PORT" => Some("8080".into()),
        "EMPTY" => Some(String::new()),
        _ => None,
    }
}

/// Loads a text that must be good.
pub(crate) fn good(text: &str) -> Loaded {
    match load(text) {
        Ok(loaded) => loaded,
        Err(refused) => panic!("{}", report::text(&refused.problems, &refused.sources, false)),
    }
}

/// What is told about a text that must be refused.
pub(crate) fn refused(text: &str) -> Box<Refused> {
    load(text).expect_err("it should have been refused")
}
