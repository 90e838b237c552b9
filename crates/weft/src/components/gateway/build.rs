//! From the sections of the edge to its plan.

use std::{collections::HashMap, sync::Arc};

use weft_gateway::{Digest, Directory, credential::KEY_BYTES_MAX};
use weft_kernel::Name;

use super::{
    plan,
    sections::{self, Basic, CONSUMERS},
};
use crate::config::{
    catalogue::Sections,
    leaf::Secret,
    problem::Problem,
    setting::{At, Cx},
    source::Place,
};

/// A key of fewer bytes is told of: keys are to be drawn by a machine, not thought of.
const KEY_BYTES_MIN: usize = 16;

/// The consumers; `None` if nobody asks who calls.
pub(super) fn build(said: &mut Sections<'_>, cx: &mut Cx) -> Option<plan::Gateway> {
    let consumers = said.entries(&CONSUMERS, cx);
    let asks = |route: &weft_proxy::plan::Route| {
        route.policy.policies.iter().any(|of| of.handler == weft_gateway::AUTHENTICATION)
    };
    if said.place(&CONSUMERS).is_none() && !said.proxy.routes.iter().any(|route| asks(route)) {
        return None;
    }
    let mut gathered = Gathered::default();
    for (name, consumer) in &consumers {
        gathered.consumer(name, consumer, cx);
    }
    Some(plan::Gateway { directory: Arc::new(gathered.directory) })
}

/// Consumers so far, and where each of their credentials stands.
#[derive(Default)]
struct Gathered {
    directory: Directory,
    credentials: HashMap<Digest, Place>,
    usernames: HashMap<String, (Name, Place)>,
}

impl Gathered {
    fn consumer(&mut self, name: &At<Name>, consumer: &sections::Consumer, cx: &mut Cx) {
        let groups = consumer.groups.iter().cloned().collect();
        self.directory.add(name.value.clone(), groups);
        for key in consumer.api_keys.iter() {
            if key.reveal().len() > KEY_BYTES_MAX {
                let say = format!("an API key has at most {KEY_BYTES_MAX} bytes");
                cx.report(Problem::error(key.place, say));
                continue;
            }
            if key.reveal().len() < KEY_BYTES_MIN {
                let say =
                    format!("an API key of fewer than {KEY_BYTES_MIN} characters can be guessed");
                let help = "draw one by chance: `openssl rand -base64 32`";
                cx.report(Problem::warning(key.place, say).help(help));
            }
            let digest = Digest::of_api_key(key.reveal().as_bytes());
            self.give(name, digest, "API key", key, cx);
        }
        if let Some(basic) = &consumer.basic {
            self.basic(name, basic, cx);
        }
    }

    fn basic(&mut self, name: &At<Name>, basic: &Basic, cx: &mut Cx) {
        let (username, place) = match &basic.username {
            Some(username) => (&*username.value, username.place),
            None => (name.as_str(), name.place),
        };
        if username.contains(':') || username.chars().any(char::is_control) {
            // RFC 7617 section 2.
            let say = "a user name holds neither a colon nor control characters";
            cx.report(Problem::error(place, say));
            return;
        }
        if let Some((other, first)) = self.usernames.get(username) {
            let say = format!("consumer `{other}` has the user name `{username}` already");
            cx.report(Problem::error(place, say).and(*first, "first here"));
            return;
        }
        self.usernames.insert(username.to_owned(), (name.value.clone(), place));
        for password in basic.passwords.iter() {
            let digest = Digest::of_basic(username.as_bytes(), password.reveal().as_bytes());
            self.give(name, digest, "password", password, cx);
        }
    }

    fn give(
        &mut self,
        name: &At<Name>,
        digest: Digest,
        what: &str,
        secret: &At<Secret>,
        cx: &mut Cx,
    ) {
        secret.discourage(cx);
        match self.directory.give(digest, &name.value) {
            Ok(()) => {
                self.credentials.insert(digest, secret.place);
            }
            Err(holder) => {
                let say = match holder == name.value {
                    true => format!("this {what} stands here twice"),
                    false => format!("consumer `{holder}` has this {what} already"),
                };
                let first = self.credentials.get(&digest).copied().unwrap_or(secret.place);
                let help = "give each its own, so that it is known who calls";
                cx.report(Problem::error(secret.place, say).and(first, "first here").help(help));
            }
        }
    }
}
