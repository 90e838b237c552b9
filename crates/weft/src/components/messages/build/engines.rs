//! The engines that a configuration can name, and what it asks of them: one that is not there, a setting
//! that an engine does not have, and what would lead from one engine to another, each where it is written.

use std::collections::HashMap;

use weft_broker::engine::{Capabilities, Capability, EMBEDDED, Lack};
use weft_broker_http::settings::{faults_of_lacks, schedule::Destination};
use weft_kernel::Name;

use super::super::sections::{Queue, Schedule, Subscription, Topic};
use crate::config::{
    options::Options,
    problem::Problem,
    setting::{At, Cx},
    source::Place,
};

/// Things that are declared, by name.
type Entries<T> = [(At<Name>, T)];

/// The engines that can be named, and what of the configuration each of them keeps.
pub(super) struct Engines<'s> {
    all: Vec<(&'s str, &'s Capabilities)>,
    topics: HashMap<&'s str, &'s str>,
    queues: HashMap<&'s str, &'s str>,
}

impl<'s> Engines<'s> {
    /// The engines of this build, for what is declared.
    pub(super) fn of(topics: &'s Entries<Topic>, queues: &'s Entries<Queue>) -> Self {
        Self::among(vec![(EMBEDDED, Capabilities::embedded())], topics, queues)
    }

    fn among(
        all: Vec<(&'s str, &'s Capabilities)>,
        topics: &'s Entries<Topic>,
        queues: &'s Entries<Queue>,
    ) -> Self {
        let topic = |(name, of): &'s (At<Name>, Topic)| (name.as_str(), of.settings.engine());
        let queue = |(name, of): &'s (At<Name>, Queue)| (name.as_str(), of.settings.engine());
        Self {
            all,
            topics: topics.iter().map(topic).collect(),
            queues: queues.iter().map(queue).collect(),
        }
    }

    /// Reports what a topic asks for.
    pub(super) fn check_topic(&self, section: &Topic, cx: &mut Cx) {
        let settings = &section.settings;
        if let Some(of) = self.known(settings.engine(), section.place(&["engine"]), cx) {
            report(section, settings.engine(), &of.lacks_of_topic(&settings.options()), cx);
        }
    }

    /// Reports what a queue asks for.
    pub(super) fn check_queue(&self, section: &Queue, cx: &mut Cx) {
        let settings = &section.settings;
        let engine = settings.engine();
        if let Some(of) = self.known(engine, section.place(&["engine"]), cx) {
            report(section, engine, &of.lacks_of_queue(&settings.options()), cx);
        }
        self.same(engine, settings.dead_letter(), section.place(&["dead_letter"]), cx);
    }

    /// Reports what a subscription asks for; the engine of its topic keeps it.
    pub(super) fn check_subscription(&self, section: &Subscription, cx: &mut Cx) {
        let settings = &section.settings;
        let engine = self.topics.get(settings.topic()).copied().unwrap_or(EMBEDDED);
        let known = self.all.iter().find(|(name, _)| *name == engine);
        if let (Some((_, of)), Ok(options)) = (known, settings.options()) {
            let lacks = of.lacks_of_subscription(settings.topic(), &options);
            report(section, engine, &lacks, cx);
        }
        self.same(engine, settings.queue(), section.place(&["queue"]), cx);
        self.same(engine, settings.dead_letter(), section.place(&["dead_letter"]), cx);
    }

    /// Reports a schedule whose target has none.
    pub(super) fn check_schedule(&self, section: &Schedule, cx: &mut Cx) {
        let (engine, place) = match section.settings.to() {
            Destination::Topic(name) => (self.topics.get(&**name), section.place(&["to", "topic"])),
            Destination::Queue(name) => (self.queues.get(&**name), section.place(&["to", "queue"])),
        };
        let Some((name, of)) = self.all.iter().find(|(name, _)| Some(name) == engine) else {
            return;
        };
        if !of.has(Capability::NamedSchedules) {
            let lack = Lack { option: "to", capability: Capability::NamedSchedules };
            cx.report(
                Problem::error(place, lack.cause(name))
                    .help("lead it to a queue or topic of the embedded engine"),
            );
        }
    }

    /// What an engine can; reports one that is not there.
    fn known(&self, name: &str, place: Place, cx: &mut Cx) -> Option<&'s Capabilities> {
        let found = self.all.iter().find(|(known, _)| *known == name).map(|(_, of)| *of);
        if found.is_none() {
            let names = self.all.iter().map(|(name, _)| *name);
            cx.report(
                Problem::error(place, format!("there is no engine `{name}`")).near(name, names),
            );
        }
        found
    }

    /// Reports a queue that would be led to from another engine than its own.
    fn same(&self, engine: &str, queue: Option<&str>, place: Place, cx: &mut Cx) {
        let Some(queue) = queue else { return };
        if let Some(other) = self.queues.get(queue)
            && *other != engine
        {
            let say = format!(
                "engine `{other}` keeps queue `{queue}`, and messages stay within `{engine}`"
            );
            cx.report(Problem::error(place, say).help("name a queue of the same engine"));
        }
    }
}

fn report<T: weft_api::Settings>(section: &Options<T>, engine: &str, lacks: &[Lack], cx: &mut Cx) {
    for fault in faults_of_lacks(engine, lacks) {
        section.report(&fault, cx);
    }
}

#[cfg(test)]
mod tests;
