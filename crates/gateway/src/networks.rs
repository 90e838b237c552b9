//! The policy that lets requests on, or does not, by the network that their client is in.
//!
//! What is denied is refused, whatever else allows it; where anything is allowed by name, all others are refused. The
//! client is the one that the node finds behind trusted proxies; where it is not known, it is in no network that is
//! allowed, and refused. Networks are written out or stand in named lists, which are swapped while requests are served
//! ([`NetworkLists`]) and looked up in a time that grows with the logarithm of their size ([`NetworkSet`]).

mod lists;
mod set;

use std::{borrow::Cow, fmt, net::IpAddr, sync::Arc};

use arc_swap::ArcSwap;
use weft_kernel::{Error, Name, Reason, Result};
use weft_proxy::{
    DryRun, Fact, Flow, Foreseen, Policy, PolicyMaker, PolicyOutcome, RequestContext, Sides, Stage,
    plan::Binding,
};

pub use self::{
    lists::NetworkLists,
    set::{ENTRIES_MAX, NetworkSet},
};

/// The name under which the policy is made.
pub const NETWORKS: &str = "networks";

/// Settings of the policy.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Networks {
    /// What is allowed; everything that is not denied, if there is nothing here.
    pub allow: Listed,
    /// What is denied.
    pub deny: Listed,
    /// Whether nothing is refused.
    pub shadow: bool,
}

/// Networks that are written out, and those of named lists.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listed {
    /// Those that are written out.
    pub written: NetworkSet,
    /// Names of lists.
    pub lists: Vec<Name>,
}

impl Listed {
    /// Whether nothing is listed.
    pub fn is_empty(&self) -> bool {
        self.written.is_empty() && self.lists.is_empty()
    }
}

impl fmt::Display for Networks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut first = true;
        for (word, listed) in [("allow", &self.allow), ("deny", &self.deny)] {
            if listed.is_empty() {
                continue;
            }
            write!(f, "{}{word}", if first { "" } else { "; " })?;
            first = false;
            if !listed.written.is_empty() {
                write!(f, " {}", listed.written)?;
            }
            for list in &listed.lists {
                write!(f, " {list}")?;
            }
        }
        f.write_str(if self.shadow { " (shadow)" } else { "" })
    }
}

/// Why a client is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Denial {
    /// It is in a network that is denied, of this list if it has a name.
    Denied(Option<Name>),
    /// It is in no network that is allowed.
    NotAllowed,
    /// Its address is not known.
    Unknown,
}

impl fmt::Display for Denial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Denied(Some(list)) => {
                write!(f, "the client is in list `{list}`, which is denied")
            }
            Self::Denied(None) => f.write_str("the client is in a network that is denied"),
            Self::NotAllowed => f.write_str("the client is in no network that is allowed"),
            Self::Unknown => f.write_str("the address of the client is not known"),
        }
    }
}

/// What was decided about a request that is not let on. The policy leaves it as a fact, in a shadow too; log, span and
/// metrics tell it under `networks`.
struct Refused {
    denial: Denial,
    is_shadow: bool,
}

impl Fact for Refused {
    fn told(&self) -> Option<(&'static str, Cow<'_, str>)> {
        let word = match &self.denial {
            Denial::Denied(Some(list)) => Cow::Owned(format!("denied by {list}")),
            Denial::Denied(None) => "denied".into(),
            Denial::NotAllowed => "not allowed".into(),
            Denial::Unknown => "unknown".into(),
        };
        let told = if self.is_shadow { format!("{word} (shadow)").into() } else { word };
        Some((NETWORKS, told))
    }

    fn is_counted(&self) -> bool {
        true
    }
}

impl PolicyMaker for NetworkLists {
    fn make(&self, binding: &Binding) -> Result<Arc<dyn Policy>, String> {
        Ok(Arc::new(Filter::new(binding.settings()?, self)))
    }
}

/// The policy of a route.
struct Filter {
    settings: Networks,
    allow: Box<[(Name, Arc<ArcSwap<NetworkSet>>)]>,
    deny: Box<[(Name, Arc<ArcSwap<NetworkSet>>)]>,
}

impl Filter {
    fn new(settings: Networks, lists: &NetworkLists) -> Self {
        let named =
            |of: &Listed| of.lists.iter().map(|name| (name.clone(), lists.list(name))).collect();
        Self { allow: named(&settings.allow), deny: named(&settings.deny), settings }
    }

    /// Why a client is refused; `None` if it is let on.
    fn denial(&self, client: Option<IpAddr>) -> Option<Denial> {
        let Some(client) = client.map(|client| client.to_canonical()) else {
            return Some(Denial::Unknown);
        };
        let Networks { allow, deny, .. } = &self.settings;
        if deny.written.contains(client) {
            return Some(Denial::Denied(None));
        }
        if let Some((list, _)) = self.deny.iter().find(|(_, set)| set.load().contains(client)) {
            return Some(Denial::Denied(Some(list.clone())));
        }
        let is_allowed = allow.is_empty()
            || allow.written.contains(client)
            || self.allow.iter().any(|(_, set)| set.load().contains(client));
        (!is_allowed).then_some(Denial::NotAllowed)
    }
}

impl Policy for Filter {
    fn stage(&self) -> Stage {
        Stage::Network
    }

    fn sides(&self) -> Sides {
        Sides { request: true, ..Sides::default() }
    }

    fn request<'a>(&'a self, cx: &'a mut RequestContext<'_>) -> Flow<'a> {
        // What begins inside was let through when it came from outside.
        if cx.is_internal() {
            return Flow::Next;
        }
        let Some(denial) = self.denial(cx.client()) else { return Flow::Next };
        let (note, is_shadow) = (denial.to_string(), self.settings.shadow);
        cx.leave(Refused { denial, is_shadow });
        if is_shadow {
            return Flow::Next;
        }
        let say = "requests from this network are not allowed";
        Flow::Refuse(Error::new(Reason::NetworkDenied, say).note(note))
    }

    fn name(&self) -> &'static str {
        NETWORKS
    }

    fn foresee(&self, cx: &mut DryRun<'_>) -> Foreseen {
        match self.denial(cx.view().client()) {
            None => Foreseen::new(PolicyOutcome::Passes, "the client may ask from its network"),
            Some(denial) if self.settings.shadow => Foreseen::of(
                PolicyOutcome::Passes,
                format!("{denial}, which refuses nothing (shadow)"),
            ),
            Some(denial) => {
                Foreseen::of(PolicyOutcome::Refuses(Reason::NetworkDenied), denial.to_string())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::name;

    fn set(of: &[&str]) -> NetworkSet {
        NetworkSet::new(of.iter().map(|net| net.parse().unwrap()))
    }

    fn listed(of: &[&str], lists: &[&str]) -> Listed {
        Listed { written: set(of), lists: lists.iter().map(|list| name(list)).collect() }
    }

    #[test]
    fn what_is_denied_is_refused_whatever_allows_it() {
        let lists = NetworkLists::default();
        let filter = Filter::new(
            Networks {
                allow: listed(&["10.0.0.0/8", "::1/128"], &["office"]),
                deny: listed(&["10.6.0.0/16"], &["bad"]),
                shadow: false,
            },
            &lists,
        );
        let ask = |client: &str| filter.denial(client.parse().ok());
        assert_eq!(ask("192.0.2.1"), Some(Denial::NotAllowed), "before the lists are there");
        let of = [("office", &["192.0.2.0/24"][..]), ("bad", &["192.0.2.66/32", "10.9.9.9/32"])];
        lists.replace(of.map(|(list, of)| (name(list), Arc::new(set(of)))));
        for (client, denial) in [
            ("10.1.2.3", None),
            ("::ffff:10.1.2.3", None),
            ("::1", None),
            ("192.0.2.1", None),
            ("10.6.1.1", Some(Denial::Denied(None))),
            ("::ffff:10.6.1.1", Some(Denial::Denied(None))),
            ("192.0.2.66", Some(Denial::Denied(Some(name("bad"))))),
            ("10.9.9.9", Some(Denial::Denied(Some(name("bad"))))),
            ("11.0.0.1", Some(Denial::NotAllowed)),
            ("::2", Some(Denial::NotAllowed)),
            ("not known", Some(Denial::Unknown)),
        ] {
            assert_eq!(ask(client), denial, "{client}");
        }
        // A list that is gone keeps what it had for as long as an older policy names it.
        lists.replace([]);
        assert_eq!(ask("192.0.2.1"), None);
        assert_eq!(
            filter.settings.to_string(),
            "allow 10.0.0.0/8 ::1/128 office; deny 10.6.0.0/16 bad"
        );
    }

    #[test]
    fn without_anything_allowed_all_are_but_those_denied() {
        let settings = Networks { deny: listed(&["10.0.0.0/8"], &[]), ..Networks::default() };
        let filter = Filter::new(settings, &NetworkLists::default());
        assert_eq!(filter.denial("11.0.0.1".parse().ok()), None);
        assert_eq!(filter.denial("10.0.0.1".parse().ok()), Some(Denial::Denied(None)));
        assert_eq!(filter.denial(None), Some(Denial::Unknown));
    }
}
