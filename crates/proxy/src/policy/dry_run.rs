//! Dry run of a request: what the policies of its route would make of it, without anything being sent, counted or
//! asked of others.

use std::{borrow::Cow, net::IpAddr};

use weft_identity::peer::Names;
use weft_kernel::{Name, Reason};
use weft_net::message::Peer;
use weft_wire::{Known, RequestHead};

use super::{Fact, Facts, Stage};
use crate::{
    certificate::Certificate,
    front,
    received::Received,
    route::Route,
    router::{Captures, Found, Lookup},
    snapshot::Snapshot,
};

/// What policies look at of a request, whether it has come or is only supposed to.
#[derive(Clone, Copy)]
pub struct RequestView<'a> {
    pub(crate) head: &'a RequestHead,
    pub(crate) method: &'a str,
    pub(crate) host: HostOf<'a>,
    pub(crate) route: &'a Route,
    pub(crate) found: &'a Found,
    pub(crate) captures: &'a Captures,
    pub(crate) listener: &'a Name,
    pub(crate) client: Option<IpAddr>,
    pub(crate) is_secure: bool,
    /// What the client has shown, and by which connection.
    pub(crate) certificate: Option<(&'a Certificate, &'a Peer)>,
    pub(crate) facts: &'a Facts,
}

/// Where the host of a request is looked up, by the few who ask for it.
#[derive(Clone, Copy)]
pub(crate) enum HostOf<'a> {
    Received(&'a Received),
    Supposed(&'a str),
}

impl<'a> RequestView<'a> {
    /// The head, checked and with a normal path.
    pub const fn head(&self) -> &'a RequestHead {
        self.head
    }

    /// The method that routes look at: extended CONNECT is a GET that upgrades.
    pub const fn method(&self) -> &'a str {
        self.method
    }

    /// The host that is asked for, in lower case and without its port.
    pub fn host(&self) -> Cow<'a, str> {
        front::plain_host(match self.host {
            HostOf::Received(received) => received.host(),
            HostOf::Supposed(host) => host,
        })
    }

    /// The name of the route.
    pub const fn route(&self) -> &'a Name {
        &self.route.name
    }

    /// What the template of the route's path took of it, by name, as it stands in the path.
    pub fn captures(&self) -> impl Iterator<Item = (&'a str, &'a str)> + use<'a> {
        let Self { route, found, captures, head, .. } = *self;
        let names = route.captured.get(found.match_index as usize).map_or(&[][..], |names| names);
        let names = names.iter().enumerate();
        names.filter_map(move |(at, name)| Some((&**name, captures.get(at, head.path())?)))
    }

    /// The name of the listener.
    pub const fn listener(&self) -> &'a Name {
        self.listener
    }

    /// The client's address, as far as it can be believed.
    pub const fn client(&self) -> Option<IpAddr> {
        self.client
    }

    /// Whether the client came by TLS.
    pub const fn is_secure(&self) -> bool {
        self.is_secure
    }

    /// The names in the client's certificate; `None` if it has shown none.
    pub fn certificate(&self) -> Option<&'a Names> {
        let (shown, peer) = self.certificate?;
        shown.names(peer)
    }

    /// A fact that was left before.
    pub fn fact<F: Fact>(&self) -> Option<&'a F> {
        self.facts.get()
    }
}

/// A request that nobody sends.
pub struct DryRun<'a> {
    view: RequestView<'a>,
    facts: Facts,
}

impl DryRun<'_> {
    /// What there is to look at.
    pub const fn view(&self) -> RequestView<'_> {
        RequestView { facts: &self.facts, ..self.view }
    }

    /// Leaves a fact for those behind.
    pub fn leave(&mut self, fact: impl Fact) {
        self.facts.leave(fact);
    }
}

/// What a policy would make of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Foreseen {
    /// What becomes of the request there.
    pub outcome: PolicyOutcome,
    /// Why, for whoever runs the node.
    pub why: Cow<'static, str>,
}

/// What becomes of a request at a policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PolicyOutcome {
    /// It goes on.
    Passes,
    /// It goes on, or not; that is seen only when it comes.
    TakesPart,
    /// Somebody else is asked, and decides.
    Asks,
    /// It is answered there, with this status.
    Answers(u16),
    /// It is refused.
    Refuses(Reason),
    /// It does not get there.
    NotReached,
}

impl Foreseen {
    /// A policy that takes part, and foresees nothing.
    pub const TAKES_PART: Self = Self::new(PolicyOutcome::TakesPart, "");

    /// What is always so.
    pub const fn new(outcome: PolicyOutcome, why: &'static str) -> Self {
        Self { outcome, why: Cow::Borrowed(why) }
    }

    /// What is so for this request.
    pub fn of(outcome: PolicyOutcome, why: impl Into<Cow<'static, str>>) -> Self {
        Self { outcome, why: why.into() }
    }
}

/// What a policy of a route would make of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// The place of the policy.
    pub stage: Stage,
    /// Its name.
    pub policy: &'static str,
    /// What becomes of the request.
    pub foreseen: Foreseen,
}

/// A request that is supposed to come.
#[derive(Clone, Debug)]
pub struct Supposed {
    /// Its head, with a normal path.
    pub head: RequestHead,
    /// The address of its client.
    pub client: Option<IpAddr>,
    /// Whether it comes by TLS.
    pub is_secure: bool,
}

impl Snapshot {
    /// What the policies of its route would make of a request on a listener, in their order; nothing if it gets no
    /// route.
    pub fn dry_run(&self, listener: &Name, supposed: &Supposed) -> Vec<Step> {
        let Supposed { head, client, is_secure } = supposed;
        let host = head.fields.get_str(Known::Host).unwrap_or_default();
        let plain = front::plain_host(host);
        let lookup = Lookup {
            host: &plain,
            method: head.method.as_str(),
            path: head.path(),
            query: head.query(),
            fields: &head.fields,
            certificate: None,
        };
        let mut captures = Captures::default();
        let listener = self.listeners.get(listener);
        let found = listener.and_then(|of| Some((of, of.table.find(&lookup, &mut captures).ok()?)));
        let route = found.and_then(|(_, found)| self.routes.get(found.route as usize));
        let (Some((listener, found)), Some(route)) = (found, route) else { return Vec::new() };
        let view = RequestView {
            head,
            method: head.method.as_str(),
            host: HostOf::Supposed(host),
            route,
            found: &found,
            captures: &captures,
            listener: &listener.name,
            client: *client,
            is_secure: *is_secure,
            certificate: None,
            facts: &Facts::none(),
        };
        ask(view)
    }
}

/// Asks the policies of a route, in their order, what they would make of a request.
fn ask(view: RequestView<'_>) -> Vec<Step> {
    let mut ended = false;
    let mut dry = DryRun { view, facts: Facts::none() };
    let mut steps = Vec::new();
    for policy in &view.route.policies.all {
        let sides = policy.sides();
        // A policy with a response side alone sees every response.
        let is_asked = sides.request || sides.body || sides.outgoing;
        let foreseen = match ended && is_asked {
            true => Foreseen::new(PolicyOutcome::NotReached, ""),
            false => policy.foresee(&mut dry),
        };
        ended |= matches!(foreseen.outcome, PolicyOutcome::Answers(_) | PolicyOutcome::Refuses(_));
        steps.push(Step { stage: policy.stage(), policy: policy.name(), foreseen });
    }
    steps
}
