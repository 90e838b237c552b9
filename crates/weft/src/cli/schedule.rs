//! `weft schedule`: messages that a running node will publish.

use weft_api::Noun;
use weft_broker_http::nouns;

use super::verbs::{Also, Named, Plain};

/// The noun of schedules.
#[derive(Clone, Debug)]
pub struct Schedules;

impl Named for Schedules {
    const NOUN: &'static Noun = &nouns::SCHEDULE;
    const ALSO: &'static [Also] =
        &[("to.topic", "topic", None), ("to.queue", "queue", None), ("data", "", Some('d'))];
}

/// Schedules of a running node.
pub type Schedule = Plain<Schedules>;
