//! From the sections of the edge to its plan.

mod clients;
mod issuers;
mod logins;
mod signatures;

use std::{collections::HashMap, sync::Arc};

use weft_gateway::{
    CertificateName, Digest, Directory,
    credential::{KEY_BYTES_MAX, WRITTEN},
};
use weft_kernel::Name;

use super::{
    external, plan,
    sections::{
        self, Basic, CONSUMERS, CertificateSection, ISSUERS, OAUTH_CLIENTS, SIGNATURE_KEYS,
        logins::LOGINS,
    },
    stores::{self, LIMIT_STORES},
};
use crate::config::{
    catalogue::Sections,
    merge::NameSet,
    problem::Problem,
    setting::{At, Cx},
    source::Place,
};

/// A key of fewer bytes is told of: keys are to be drawn by a machine, not thought of.
const KEY_BYTES_MIN: usize = 16;

/// The consumers; `None` if nobody asks who calls, or how often.
pub(super) fn build(said: &mut Sections<'_>, cx: &mut Cx) -> Option<plan::Gateway> {
    let names = said.names(&ISSUERS);
    let beside: Vec<Box<str>> = names.iter().map(|(name, _)| name.into()).collect();
    let consumers = said.remembered(&CONSUMERS, beside, cx, |consumers, cx| {
        let mut gathered = Gathered::default();
        for (name, consumer) in &consumers {
            gathered.consumer(name, consumer, &names, cx);
        }
        gathered.directory
    });
    let asks = |route: &weft_proxy::plan::Route| {
        let ours = [
            weft_gateway::AUTHENTICATION,
            weft_gateway::RATE_LIMITS,
            weft_gateway::SERVICE_CREDENTIALS,
        ];
        route.policy.policies.iter().any(|of| ours.contains(&of.handler))
    };
    external::lead(said);
    let issuers = said.entries(&ISSUERS, cx);
    let clients = said.entries(&OAUTH_CLIENTS, cx);
    let stores = said.entries(&LIMIT_STORES, cx);
    let signature_keys = said.entries(&SIGNATURE_KEYS, cx);
    let logins = said.entries(&LOGINS, cx);
    let ours = [
        said.place(&CONSUMERS),
        said.place(&ISSUERS),
        said.place(&SIGNATURE_KEYS),
        said.place(&LOGINS),
        said.place(&OAUTH_CLIENTS),
        said.place(&LIMIT_STORES),
    ];
    let is_said = ours.iter().any(Option::is_some);
    if !is_said && !said.proxy.routes.iter().any(|route| asks(route)) {
        return None;
    }
    let issuers = issuers::build(&issuers, cx);
    let clients = clients::build(&clients, cx);
    let stores = stores::build(&stores, cx);
    let logins = logins::build(&logins, &names, cx);
    logins::keep_cookies(&logins, said);
    let signature_keys = Arc::new(match signature_keys.is_empty() {
        true => HashMap::new(),
        false => signatures::build(&signature_keys, &said.names(&CONSUMERS), cx),
    });
    Some(plan::Gateway { consumers, issuers, clients, stores, signature_keys, logins })
}

/// Consumers so far, and where each of their credentials stands.
#[derive(Default)]
struct Gathered {
    directory: Directory,
    credentials: HashMap<Digest, Place>,
    usernames: HashMap<String, (Name, Place)>,
}

impl Gathered {
    fn consumer(
        &mut self,
        name: &At<Name>,
        consumer: &sections::Consumer,
        issuers: &NameSet,
        cx: &mut Cx,
    ) {
        let groups = consumer.groups.iter().cloned().collect();
        self.directory.add(name.value.clone(), groups);
        for key in consumer.api_keys.iter() {
            if key.reveal().starts_with(WRITTEN) {
                let digest = Digest::parse_api_key(key.reveal());
                self.written(name, digest, "API key", key.place, cx);
                continue;
            }
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
            key.discourage(cx);
            self.give(name, digest, "API key", key.place, cx);
        }
        if let Some(basic) = &consumer.basic {
            self.basic(name, basic, cx);
        }
        for section in consumer.certificates.iter() {
            if let Some(certificate) = certificate(section, cx) {
                self.give(name, certificate.digest(), "name of a certificate", section.place, cx);
            }
        }
        for (issuer, subject) in &consumer.subjects.0 {
            issuers.require("issuer", &issuer.value, issuer.place, cx);
            let digest = Digest::of_subject(&issuer.value, &subject.value);
            self.give(name, digest, "subject", subject.place, cx);
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
            if password.reveal().starts_with(WRITTEN) {
                let digest = Digest::parse_basic(password.reveal());
                self.written(name, digest, "password", password.place, cx);
                continue;
            }
            let digest = Digest::of_basic(username.as_bytes(), password.reveal().as_bytes());
            password.discourage(cx);
            self.give(name, digest, "password", password.place, cx);
        }
    }

    /// Takes a credential that is written as its digest.
    fn written(
        &mut self,
        name: &At<Name>,
        digest: Option<Digest>,
        what: &str,
        place: Place,
        cx: &mut Cx,
    ) {
        match digest {
            Some(digest) => self.give(name, digest, what, place, cx),
            None => {
                let say =
                    format!("the digest of a credential is `{WRITTEN}` and 64 hexadecimal digits");
                let help = "`weft key digest` writes it";
                cx.report(Problem::error(place, say).help(help));
            }
        }
    }

    fn give(&mut self, name: &At<Name>, digest: Digest, what: &str, place: Place, cx: &mut Cx) {
        match self.directory.give(digest, &name.value) {
            Ok(()) => {
                self.credentials.insert(digest, place);
            }
            Err(holder) => {
                let say = match holder == name.value {
                    true => format!("this {what} stands here twice"),
                    false => format!("consumer `{holder}` has this {what} already"),
                };
                let first = self.credentials.get(&digest).copied().unwrap_or(place);
                let help = "give each its own, so that it is known who calls";
                cx.report(Problem::error(place, say).and(first, "first here").help(help));
            }
        }
    }
}

/// The name in a certificate that a section says.
fn certificate(section: &CertificateSection, cx: &mut Cx) -> Option<CertificateName> {
    let CertificateSection { uri, dns, subject, fingerprint, place } = section;
    let all = [
        uri.clone().map(CertificateName::Uri),
        dns.clone().map(CertificateName::Dns),
        subject.clone().map(CertificateName::Subject),
        fingerprint.clone().map(CertificateName::Fingerprint),
    ];
    let mut all = all.into_iter().flatten();
    let (Some(name), None) = (all.next(), all.next()) else {
        let say = "a name in a certificate is one of `uri`, `dns`, `subject` and `fingerprint`";
        cx.report(Problem::error(*place, say));
        return None;
    };
    let digits = |text: &str| {
        let digits: Vec<u8> = text.bytes().filter(|byte| *byte != b':').collect();
        digits.len() == 64 && digits.iter().all(u8::is_ascii_hexdigit)
    };
    let why = match &name {
        CertificateName::Fingerprint(text) if !digits(text) => {
            Some("a fingerprint is 64 hexadecimal digits, with or without colons")
        }
        CertificateName::Uri(text) if !text.contains(':') => {
            Some("a URI begins with its scheme, such as `spiffe://`")
        }
        CertificateName::Dns(text) if text.contains(['*', ':', '/', ' ']) || text.is_empty() => {
            Some("a DNS name is named whole, without wildcards")
        }
        _ => None,
    };
    if let Some(why) = why {
        cx.report(Problem::error(*place, why));
        return None;
    }
    Some(name)
}
