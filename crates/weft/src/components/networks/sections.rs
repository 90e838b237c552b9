//! What is said about lists of networks, and about the networks from which a route may be asked.

use std::net::IpAddr;

use ipnet::IpNet;
use weft_gateway::{
    NETWORKS, Networks,
    networks::{Listed, NetworkSet},
};
use weft_kernel::Name;
use weft_proxy::plan::Binding;

use crate::config::{
    catalogue::{KeyOf, PolicyKey},
    leaf::{InputFile, Many, Named, Switch, Whole},
    problem::Problem,
    setting::{At, Cx, Field, Setting, Shape, settings},
    tree::Node,
};

/// Lists of networks.
pub const NETWORK_LISTS: KeyOf<Named<NetworkListSection>> =
    KeyOf::new("network_lists", "Lists of networks by name, for the policy `networks`.");

/// All of them.
pub const ALL: &[Field] = &[NETWORK_LISTS.field()];

const KEY: KeyOf<Switch<Whole<NetworksSection>>> =
    KeyOf::new("networks", "Networks from which clients may ask.").or("off");

/// Their key in a policy.
pub static POLICIES: [PolicyKey; 1] = [PolicyKey {
    field: KEY.field(),
    build: |policy, cx| match KEY.read(policy, cx)? {
        Switch::On(Whole(section)) => {
            section.build(cx).map(|settings| Binding::new(NETWORKS, settings))
        }
        Switch::Off => None,
    },
}];

settings! {
    /// List of networks.
    pub struct NetworkListSection = "network list", short "file" {
        /// File with an address or a network a line; what is behind a `#` or a `;` is a comment. It is read again
        /// when it changes. At most 500,000 networks and 8 MiB.
        file: At<InputFile>,
    }

    /// Networks from which clients may ask. What is denied is refused with 403, whatever else allows it.
    pub struct NetworksSection = "networks", short "allow" {
        /// Networks, addresses and names of `network_lists` that are allowed; all others are refused. Without any,
        /// everything is allowed that is not denied.
        allow: Many<NetworkOrList>,
        /// Networks, addresses and names of `network_lists` that are denied.
        deny: Many<NetworkOrList>,
        /// Whether it refuses nothing, and only tells in logs and metrics what it would refuse.
        shadow: bool = "false",
    }
}

impl NetworksSection {
    fn build(&self, cx: &mut Cx) -> Option<Networks> {
        if self.allow.is_empty() && self.deny.is_empty() {
            let say = "neither a network that is allowed nor one that is denied";
            cx.report(Problem::error(self.place, say).help("list some in `allow` or in `deny`"));
            return None;
        }
        Some(Networks { allow: listed(&self.allow), deny: listed(&self.deny), shadow: self.shadow })
    }
}

fn listed(of: &Many<NetworkOrList>) -> Listed {
    let (mut written, mut lists) = (Vec::new(), Vec::new());
    for one in of.iter() {
        match one {
            NetworkOrList::Network(network) => written.push(*network),
            NetworkOrList::List(name) => lists.push(name.clone()),
        }
    }
    Listed { written: NetworkSet::new(written), lists }
}

/// A network, or the name of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NetworkOrList {
    /// A network that is written out.
    Network(IpNet),
    /// A list.
    List(Name),
}

impl Setting for NetworkOrList {
    fn shape() -> Shape {
        Shape::Text { what: "network or list", pattern: None }
    }

    fn read(node: &Node, cx: &mut Cx) -> Option<Self> {
        let what = "a network such as 10.0.0.0/8, an address, or the name of a network list";
        let text = cx.text(node, what)?;
        if let Ok(network) = text.parse::<IpNet>() {
            return Some(Self::Network(network));
        }
        if let Ok(address) = text.parse::<IpAddr>() {
            return Some(Self::Network(address.into()));
        }
        // What looks like a network is a mistake in one, and no name.
        let is_network =
            text.contains([':', '/']) || text.starts_with(|first: char| first.is_ascii_digit());
        match Name::new(text).ok().filter(|_| !is_network) {
            Some(name) => Some(Self::List(name)),
            None => {
                cx.expected(node, what);
                None
            }
        }
    }
}
