//! The policies of routes that decide by rules whether a request is allowed, with the examples that they are held to.
//!
//! Examples are asked whenever the configuration is read, also at a reload, so that rules which say something else
//! than their author meant never come into force.

use std::{borrow::Cow, net::IpAddr, sync::Arc};

use weft_gateway::{
    AUTHORIZATION, Authorization,
    authorization::{Attributes, DEFAULT, Effect, RULES_MAX, Rule},
    consumer::Consumer,
};
use weft_identity::{peer::Names, token};
use weft_kernel::Name;
use weft_proxy::plan::Binding;
use weft_wire::{Fields, path};

use crate::config::{
    catalogue::{KeyOf, PolicyKey},
    leaf::{Many, Pairs, Switch, Whole},
    problem::Problem,
    setting::{Absent, At, Cx, Setting, Shape, settings, words},
    text::{HeaderName, Method},
    tree::{Kind, Node},
};

const KEY: KeyOf<Switch<Whole<AuthorizationSection>>> =
    KeyOf::new("authorization", "Authorization: rules that decide whether a request is allowed.")
        .or("off");

/// Their key in a policy.
pub(super) const AUTHORIZATION_KEY: PolicyKey = PolicyKey {
    field: KEY.field(),
    build: |policy, cx| match KEY.read(policy, cx)? {
        Switch::On(Whole(section)) => {
            section.build(cx).map(|settings| Binding::new(AUTHORIZATION, settings))
        }
        Switch::Off => None,
    },
};

words! {
    /// What becomes of a request.
    pub enum Then {
        /// it goes on
        Allow = "allow",
        /// it is refused with 403
        Deny = "deny",
    }

    /// What becomes of a request when the condition of a rule cannot be worked out.
    pub enum OnRuleFailure {
        /// it is refused with 403
        Deny = "deny",
        /// the rule is passed over, as if its condition were false
        Skip = "skip",
    }
}

settings! {
    /// Authorization. The first rule whose condition is true decides.
    pub struct AuthorizationSection = "authorization", short "rules" {
        /// Rules, in the order in which they are asked; at most 100.
        rules: Vec<RuleSection>,
        /// What becomes of a request for which no rule decides.
        default: Then = "deny",
        /// What becomes of a request when the condition of a rule cannot be worked out, since it reads what is not
        /// there or would take too long.
        on_failure: OnRuleFailure = "deny",
        /// Whether it refuses nothing, and only tells in logs and metrics what it would refuse.
        shadow: bool = "false",
    }

    /// Rule of authorization.
    pub struct RuleSection = "rule" {
        /// Name that logs and metrics are told.
        name: At<Name>,
        /// Condition in CEL, over `request`, `consumer`, `claims`, `certificate`, `client`, `listener` and `route`.
        when: At<String>,
        /// What becomes of a request of which it is true.
        then: Then,
        /// Requests with what must become of them. They are asked whenever the configuration is read.
        examples: Vec<ExampleSection>,
    }

    /// Request that rules are held to. What it does not say, the request does not have.
    pub struct ExampleSection = "example" {
        /// Method.
        method: Method = "GET",
        /// Path, with or without a query.
        path: At<String> = "/",
        /// What the route's template takes of the path.
        captures: Pairs<String, String>,
        /// Host.
        host: String = "''",
        /// Header fields.
        headers: Pairs<HeaderName, String>,
        /// Whether the client came by TLS.
        tls: bool = "false",
        /// Consumer that authentication has found.
        consumer: Option<ExampleConsumer>,
        /// Claims of the token.
        claims: Option<Claims>,
        /// Client certificate.
        certificate: Option<ExampleCertificate>,
        /// Address of the client.
        client: Option<Address>,
        /// Name of the listener.
        listener: String = "''",
        /// Name of the route.
        route: String = "''",
        /// What must become of it, by all rules together.
        expect: Then,
    }

    /// Consumer of an example.
    pub struct ExampleConsumer = "consumer of an example", short "name" {
        /// Name.
        name: Name,
        /// Groups that it is in.
        groups: Many<Name>,
        /// Whether it stands in for a client without credentials.
        anonymous: bool = "false",
    }

    /// Client certificate of an example.
    pub struct ExampleCertificate = "certificate of an example" {
        /// Distinguished name of the subject.
        subject: String = "''",
        /// Common name of the subject.
        common_name: Option<String>,
        /// DNS names.
        dns: Many<String>,
        /// URIs; a SPIFFE id is one.
        uris: Many<String>,
        /// IP addresses.
        addresses: Many<String>,
        /// SHA-256 digest of the certificate, in hexadecimal.
        fingerprint: String = "''",
    }
}

impl From<Then> for Effect {
    fn from(then: Then) -> Self {
        match then {
            Then::Allow => Self::Allow,
            Then::Deny => Self::Deny,
        }
    }
}

impl AuthorizationSection {
    fn build(&self, cx: &mut Cx) -> Option<Authorization> {
        if self.rules.is_empty() {
            let help = "list `rules`, each with `name`, `when` and `then`";
            cx.report(Problem::error(self.place, "an authorization has rules").help(help));
            return None;
        }
        if self.rules.len() > RULES_MAX {
            let say = format!("an authorization has at most {RULES_MAX} rules");
            cx.report(Problem::error(self.place, say).help("have a service decide about more"));
            return None;
        }
        let before = cx.problems.len();
        let mut rules: Vec<Rule> = Vec::with_capacity(self.rules.len());
        for section in &self.rules {
            let name = &section.name;
            if let Some(first) = self.rules.iter().find(|one| *one.name == **name)
                && first.name.place != name.place
            {
                let say = format!("two rules are named `{}`", **name);
                cx.report(Problem::error(name.place, say).and(first.name.place, "first here"));
            }
            if name.as_str() == DEFAULT {
                let say = "`default` is what logs call it when no rule decides";
                cx.report(Problem::error(name.place, say).help("name the rule otherwise"));
            }
            match Rule::new(name.value.clone(), &section.when, section.then.into()) {
                Ok(rule) => rules.push(rule),
                Err(why) => cx.report(Problem::error(section.when.place, why)),
            }
        }
        if cx.problems.len() > before {
            return None;
        }
        let authorization = Authorization {
            rules,
            default: self.default.into(),
            skips_failures: matches!(self.on_failure, OnRuleFailure::Skip),
            shadow: self.shadow,
        };
        for example in self.rules.iter().flat_map(|rule| &rule.examples) {
            example.ask(&authorization, cx);
        }
        (cx.problems.len() == before).then_some(authorization)
    }
}

impl ExampleSection {
    /// Asks the rules about it, and reports what comes out otherwise than is expected.
    fn ask(&self, rules: &Authorization, cx: &mut Cx) {
        // Slashes may stay encoded, as a listener can be told.
        let normal = path::Rules { encoded_slash: path::EncodedSlash::Keep, ..Default::default() };
        let target = match path::normalise(&self.path, normal) {
            Ok(target) if target.starts_with('/') => target,
            _ => {
                let say = "no request with this path gets to a rule";
                let help = "write a path such as /orders/7, with what is not ASCII escaped";
                return cx.report(Problem::error(self.path.place, say).help(help));
            }
        };
        let (path, query) = match target.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (&*target, None),
        };
        let mut fields = Fields::new();
        for (name, value) in &self.headers.0 {
            if !fields.append(&name.0, value.as_bytes()) {
                let say = format!("the value of `{}` cannot be that of a header field", name.0);
                return cx.report(Problem::error(self.place, say));
            }
        }
        let consumer = self.consumer.as_ref().map(|of| {
            Consumer::new(of.name.clone(), of.groups.iter().cloned().collect(), of.anonymous)
        });
        let certificate = self.certificate.as_ref().map(|of| Names {
            dns: of.dns.iter().cloned().collect(),
            addresses: of.addresses.iter().cloned().collect(),
            uri: of.uris.iter().cloned().collect(),
            subject: of.subject.clone(),
            common_name: of.common_name.clone(),
            fingerprint: of.fingerprint.clone(),
        });
        let captures = self.captures.0.iter().map(|(name, value)| (&**name, &**value)).collect();
        let attributes = Attributes {
            method: &self.method.0,
            path,
            captures,
            query,
            fields: &fields,
            host: Cow::Owned(self.host.to_ascii_lowercase()),
            is_secure: self.tls,
            consumer: consumer.as_ref(),
            claims: self.claims.as_ref().map(|claims| &*claims.0),
            certificate: certificate.as_ref(),
            client: self.client.map(|client| client.0),
            listener: &self.listener,
            route: &self.route,
        };
        let verdict = rules.decide(&attributes);
        if verdict.effect != self.expect.into() {
            let [is, expected] = match verdict.effect {
                Effect::Allow => ["allowed", "deny"],
                Effect::Deny => ["denied", "allow"],
            };
            let say = format!("this example is {is}, and `{expected}` is expected");
            cx.report(Problem::error(self.place, say).help(verdict.why()));
        }
    }
}

/// Claims of a token, as JSON has them.
#[derive(Clone, Debug)]
pub struct Claims(Arc<token::Claims>);

impl Setting for Claims {
    const ABSENT: Absent = Absent::Required;

    fn shape() -> Shape {
        Shape::Map { key: "claim", value: Box::new(Shape::Any) }
    }

    fn read(node: &Node, cx: &mut Cx) -> Option<Self> {
        if !matches!(node.kind, Kind::Map(_)) {
            cx.expected(node, "a map of claims");
            return None;
        }
        let json = node.json().map_err(|problem| cx.problems.extend(problem)).ok()?;
        match token::Claims::of_json(json.as_bytes()) {
            Ok(claims) => Some(Self(Arc::new(claims))),
            Err(_) => {
                let say = "no token has these claims: `exp` and `nbf` are numbers of seconds";
                cx.report(Problem::error(node.place, say));
                None
            }
        }
    }
}

/// An IP address.
#[derive(Clone, Copy, Debug)]
pub struct Address(IpAddr);

impl Setting for Address {
    fn shape() -> Shape {
        Shape::Text { what: "address", pattern: None }
    }

    fn read(node: &Node, cx: &mut Cx) -> Option<Self> {
        let what = "an IP address such as 192.0.2.1 or 2001:db8::1";
        let address = cx.text(node, what)?.parse();
        if address.is_err() {
            cx.expected(node, what);
        }
        address.ok().map(Self)
    }
}
