//! The formats of a file of endpoints.
//!
//! **Prometheus** (`file_sd`): a list of groups with `targets` (`host:port`) and `labels`. A label becomes
//! metadata of each target; `__weight__`, `__priority__` and `__zone__` are taken as such, which Prometheus
//! itself ignores.
//!
//! **Envoy** (file-based EDS): a `ClusterLoadAssignment`, alone or as the one entry of `resources`. Taken are
//! `priority`, `locality.zone`, `socket_address` or `pipe`, `hostname`, `load_balancing_weight`, the
//! scalars of `metadata.filter_metadata["envoy.lb"]`, and `health_status`: what is UNHEALTHY, DRAINING or
//! TIMEOUT is left out.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc};

use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Value;
use weft_net::Address;

use super::yaml;
use crate::{
    options::Location,
    source::{ENDPOINTS_MAX, Instance, Metadata},
};

/// The largest weight.
const WEIGHT_MAX: u32 = 1_000_000;
/// The most facts about one endpoint.
const METADATA_MAX: usize = 64;
/// The longest name and value of a fact, together.
const FACT_BYTES_MAX: usize = 1_024;

/// Reads the endpoints of a text in one of the formats.
///
/// # Errors
/// What is wrong with it, for people.
pub fn parse(text: &str) -> Result<Vec<Instance>, String> {
    let text = text.trim_start_matches('\u{feff}');
    let root = match text.trim_start().chars().next() {
        None => return Err("the file is empty".into()),
        // What begins so may be JSON or YAML in brackets.
        Some('[' | '{') => match serde_json::from_str(text) {
            Ok(root) => root,
            Err(json) => yaml::parse(text).map_err(|_yaml| format!("this is not JSON: {json}"))?,
        },
        Some(_) => yaml::parse(text)?,
    };
    let instances = match root {
        Value::Array(groups) => prometheus(groups)?,
        Value::Object(ref map) if map.contains_key("resources") => {
            envoy(whole::<Resources>(root)?.resources)?
        }
        Value::Object(ref map) if map.contains_key("endpoints") => envoy(vec![root])?,
        _ => {
            return Err(
                "this is neither a list of `targets` (Prometheus) nor a map with `endpoints` or \
                        `resources` (Envoy's ClusterLoadAssignment)"
                    .into(),
            );
        }
    };
    if instances.len() > ENDPOINTS_MAX {
        return Err(format!("{} endpoints, more than {ENDPOINTS_MAX}", instances.len()));
    }
    Ok(instances)
}

fn whole<T: DeserializeOwned>(value: Value) -> Result<T, String> {
    serde_json::from_value(value).map_err(|error| error.to_string())
}

/// A value that may be written with or without quotes.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
enum Scalar {
    Text(String),
    Number(serde_json::Number),
    Bool(bool),
}

impl Scalar {
    fn text(self) -> String {
        match self {
            Self::Text(text) => text,
            Self::Number(number) => number.to_string(),
            Self::Bool(yes) => yes.to_string(),
        }
    }
}

/// Reads a whole number within bounds.
fn number<T: TryFrom<u64>>(what: &str, scalar: Scalar, min: u64, max: u64) -> Result<T, String> {
    let text = scalar.text();
    let number = text.trim().parse().ok().filter(|number| (min..=max).contains(number));
    let number = number.and_then(|number| T::try_from(number).ok());
    number.ok_or_else(|| format!("{what} `{}` is no number from {min} to {max}", short(&text)))
}

fn short(text: &str) -> String {
    text.chars().take(60).collect()
}

fn checked(metadata: Metadata) -> Result<Arc<Metadata>, String> {
    if metadata.len() > METADATA_MAX {
        return Err(format!("more than {METADATA_MAX} labels"));
    }
    match metadata.iter().find(|(name, value)| name.len() + value.len() > FACT_BYTES_MAX) {
        Some((name, _)) => {
            Err(format!("the label `{}` is longer than {FACT_BYTES_MAX} bytes", short(name)))
        }
        None => Ok(Arc::new(metadata)),
    }
}

/// One group of a Prometheus list.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Group {
    targets: Vec<String>,
    labels: Option<BTreeMap<String, Scalar>>,
}

fn prometheus(groups: Vec<Value>) -> Result<Vec<Instance>, String> {
    let mut instances = Vec::new();
    for (number, group) in (1..).zip(groups) {
        let at = |what: String| format!("entry {number}: {what}");
        instances.extend(of_group(whole(group).map_err(at)?).map_err(at)?);
    }
    Ok(instances)
}

fn of_group(group: Group) -> Result<Vec<Instance>, String> {
    let mut labels = group.labels.unwrap_or_default();
    let weight = match labels.remove("__weight__") {
        Some(weight) => number("the weight", weight, 1, WEIGHT_MAX.into())?,
        None => 1,
    };
    let priority = match labels.remove("__priority__") {
        Some(priority) => number("the priority", priority, 0, u16::MAX.into())?,
        None => 0,
    };
    let zone: Option<Arc<str>> = labels.remove("__zone__").map(|zone| zone.text().into());
    let metadata = checked(labels.into_iter().map(|(name, of)| (name, of.text())).collect())?;
    let instance = |target: String| {
        Ok(Instance {
            weight,
            priority,
            zone: zone.clone(),
            metadata: Arc::clone(&metadata),
            ..Instance::new(location(&target)?)
        })
    };
    group.targets.into_iter().map(instance).collect()
}

/// An address, or a host with its port.
fn location(text: &str) -> Result<Location, String> {
    match text.parse() {
        Ok(Location::Address(Address::Tcp(address))) if address.port() == 0 => {
            Err(format!("`{}` has port 0, which nobody can be reached at", short(text)))
        }
        Ok(Location::Host { port: 0, .. }) => {
            Err(format!("`{}` has port 0, which nobody can be reached at", short(text)))
        }
        Ok(location @ (Location::Address(_) | Location::Host { .. })) => Ok(location),
        _ => Err(format!("`{}` is neither an address nor a host with its port", short(text))),
    }
}

#[derive(Deserialize)]
struct Resources {
    resources: Vec<Value>,
}

#[derive(Deserialize)]
struct Assignment {
    #[serde(default)]
    endpoints: Vec<LocalityEndpoints>,
}

#[derive(Deserialize)]
struct LocalityEndpoints {
    locality: Option<Locality>,
    priority: Option<Scalar>,
    #[serde(default, alias = "lbEndpoints")]
    lb_endpoints: Vec<LbEndpoint>,
}

#[derive(Deserialize)]
struct Locality {
    zone: Option<String>,
}

#[derive(Deserialize)]
struct LbEndpoint {
    endpoint: Endpoint,
    #[serde(alias = "healthStatus")]
    health_status: Option<Scalar>,
    #[serde(alias = "loadBalancingWeight")]
    load_balancing_weight: Option<Scalar>,
    metadata: Option<Meta>,
}

#[derive(Deserialize)]
struct Endpoint {
    address: EnvoyAddress,
    hostname: Option<String>,
}

#[derive(Deserialize)]
struct EnvoyAddress {
    #[serde(alias = "socketAddress")]
    socket_address: Option<SocketAddress>,
    pipe: Option<Pipe>,
}

#[derive(Deserialize)]
struct SocketAddress {
    address: String,
    #[serde(alias = "portValue")]
    port_value: Scalar,
}

#[derive(Deserialize)]
struct Pipe {
    path: PathBuf,
}

#[derive(Deserialize)]
struct Meta {
    #[serde(default, alias = "filterMetadata")]
    filter_metadata: BTreeMap<String, BTreeMap<String, Value>>,
}

fn envoy(mut assignments: Vec<Value>) -> Result<Vec<Instance>, String> {
    if assignments.len() > 1 {
        let count = assignments.len();
        return Err(format!("{count} clusters stand here: write one file for each service"));
    }
    let Some(assignment) = assignments.pop() else { return Ok(Vec::new()) };
    let assignment: Assignment = whole(assignment)?;
    let mut instances = Vec::new();
    for group in assignment.endpoints {
        let priority = match group.priority {
            Some(priority) => number("the priority", priority, 0, u16::MAX.into())?,
            None => 0,
        };
        let zone = group.locality.and_then(|of| of.zone).filter(|zone| !zone.is_empty());
        let zone: Option<Arc<str>> = zone.map(Into::into);
        for endpoint in group.lb_endpoints {
            let at = |what: String| format!("endpoint {}: {what}", instances.len() + 1);
            if let Some(instance) = of_endpoint(endpoint).map_err(at)? {
                instances.push(Instance { priority, zone: zone.clone(), ..instance });
            }
        }
    }
    Ok(instances)
}

/// An endpoint of Envoy's; `None` for one that is to take no new requests.
fn of_endpoint(of: LbEndpoint) -> Result<Option<Instance>, String> {
    let weight = match of.load_balancing_weight {
        Some(weight) => number("load_balancing_weight", weight, 1, WEIGHT_MAX.into())?,
        None => 1,
    };
    let serves = match of.health_status.map(Scalar::text).as_deref() {
        // By name or by number, as protobuf's JSON has it.
        None | Some("UNKNOWN" | "HEALTHY" | "DEGRADED" | "0" | "1" | "5") => true,
        Some("UNHEALTHY" | "DRAINING" | "TIMEOUT" | "2" | "3" | "4") => false,
        Some(other) => return Err(format!("the health_status `{}` is unknown", short(other))),
    };
    let address = of.endpoint.address;
    let location = match (address.socket_address, address.pipe) {
        (Some(socket), None) => {
            let port: u16 = number("port_value", socket.port_value, 1, u16::MAX.into())?;
            let host = socket.address;
            location(&match host.contains(':') {
                true => format!("[{host}]:{port}"),
                false => format!("{host}:{port}"),
            })?
        }
        (None, Some(pipe)) => {
            let text = format!("unix:{}", pipe.path.display());
            let address: Address = text.parse().map_err(|error| format!("{error}"))?;
            Location::Address(address)
        }
        _ => return Err("one of `socket_address` and `pipe` is wanted".into()),
    };
    let facts = of.metadata.map(|mut of| of.filter_metadata.remove("envoy.lb").unwrap_or_default());
    let scalar = |(name, value)| Some((name, whole::<Scalar>(value).ok()?.text()));
    let metadata = checked(facts.into_iter().flatten().filter_map(scalar).collect())?;
    let hostname = of.endpoint.hostname.filter(|host| !host.is_empty());
    Ok(serves.then(|| Instance {
        hostname: hostname.map(Into::into),
        weight,
        metadata,
        ..Instance::new(location)
    }))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, proptest};

    use super::*;

    /// `location weight priority zone hostname facts` of each endpoint.
    fn shown(text: &str) -> Result<Vec<String>, String> {
        let line = |of: &Instance| {
            let word = |of: &Option<Arc<str>>| of.as_deref().unwrap_or("-").to_owned();
            let facts: Vec<String> = of.metadata.iter().map(|(k, v)| format!("{k}={v}")).collect();
            let (zone, host) = (word(&of.zone), word(&of.hostname));
            let (location, weight, priority) = (&of.location, of.weight, of.priority);
            format!("{location} {weight} {priority} {zone} {host} {}", facts.join(","))
        };
        parse(text).map(|all| all.iter().map(line).collect())
    }

    #[test]
    fn prometheus_lists() {
        let expect = [
            "10.0.0.1:80 1 0 - - rack=1.10",
            "orders.internal:8080 1 0 - - rack=1.10",
            "[::1]:80 3 2 b - ",
        ]
        .map(str::to_owned);
        let json = r#"[
            {"targets": ["10.0.0.1:80", "orders.internal:8080"], "labels": {"rack": "1.10"}},
            {"targets": ["[::1]:80"], "labels": {"__weight__": "3", "__priority__": 2, "__zone__": "b"}}
        ]"#;
        let yaml = "# made by hand
- targets: [10.0.0.1:80, 'orders.internal:8080']
  labels: { rack: 1.10 }
- targets:
    - '[::1]:80'
  labels: { __weight__: 3, __priority__: 2, __zone__: b }
";
        assert_eq!(shown(json).unwrap(), expect);
        assert_eq!(shown(yaml).unwrap(), expect);
        assert_eq!(shown("[]").unwrap(), Vec::<String>::new());
        assert_eq!(shown("[{targets: ['10.0.0.1:80']}]").unwrap(), ["10.0.0.1:80 1 0 - - "]);
        assert_eq!(shown("- targets: []\n  labels:\n").unwrap(), Vec::<String>::new());
    }

    #[test]
    fn envoy_assignments() {
        let expect = [
            "10.0.0.1:8080 5 0 a orders.internal version=2",
            "unix:/run/orders.sock 1 1 - - ",
            "[::1]:8081 1 1 - - ",
        ]
        .map(str::to_owned);
        let yaml = "version_info: '0'
resources:
- '@type': type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment
  cluster_name: orders
  endpoints:
  - locality: { region: r, zone: a }
    lb_endpoints:
    - endpoint:
        hostname: orders.internal
        address: { socket_address: { address: 10.0.0.1, port_value: 8080 } }
      load_balancing_weight: 5
      metadata: { filter_metadata: { envoy.lb: { version: 2, nested: {} }, other: { x: y } } }
    - endpoint: { address: { socket_address: { address: 10.0.0.2, port_value: 8080 } } }
      health_status: DRAINING
  - priority: 1
    lb_endpoints:
    - endpoint: { address: { pipe: { path: /run/orders.sock } } }
      health_status: HEALTHY
    - endpoint: { address: { socket_address: { address: '::1', port_value: 8081 } } }
";
        assert_eq!(shown(yaml).unwrap(), expect);
        let json = r#"{"clusterName": "orders", "endpoints": [{"lbEndpoints": [{"endpoint":
            {"address": {"socketAddress": {"address": "10.0.0.1", "portValue": 80}}}}]}]}"#;
        assert_eq!(shown(json).unwrap(), ["10.0.0.1:80 1 0 - - "]);
    }

    #[test]
    fn what_is_wrong_is_said() {
        let many = format!("[{{\"targets\": [{}]}}]", vec!["\"10.0.0.1:80\""; 10_001].join(","));
        for (text, what) in [
            ("", "the file is empty"),
            ("\n  \n", "the file is empty"),
            ("# nothing\n", "the file holds nothing"),
            ("[{\"targets\": [\"10.0.0.1:80\"", "this is not JSON: EOF"),
            ("- targets: [10.0.0.1:80", "line 1"),
            ("orders", "this is neither"),
            ("{}", "this is neither"),
            ("- target: [a:1]", "entry 1: unknown field `target`"),
            ("- labels: {}", "entry 1: missing field `targets`"),
            ("- targets: [a:1]\n- targets: [orders]", "entry 2: `orders` is neither"),
            ("- targets: ['srv:_a._tcp.b']", "entry 1: `srv:_a._tcp.b` is neither"),
            ("- targets: ['http://a:80']", "entry 1: `http://a:80` is neither"),
            ("- targets: ['127.0.0.1:0']", "entry 1: `127.0.0.1:0` has port 0"),
            ("- targets: ['a:0']", "entry 1: `a:0`"),
            ("- targets: [a:1]\n  labels: {__weight__: 0}", "the weight `0` is no number from 1"),
            ("- targets: [a:1]\n  labels: {__priority__: x}", "the priority `x` is no number"),
            ("- targets: [a:1]\n  targets: [b:1]", "line 2: `targets` stands twice"),
            ("- &a { targets: [a:1] }\n- *a", "anchors are not used"),
            ("- targets: []\n---\n[]", "a second document"),
            ("resources: [{}, {}]", "2 clusters stand here"),
            ("endpoints: [{lb_endpoints: [{endpoint: {address: {}}}]}]", "endpoint 1: one of"),
            (&many, "10001 endpoints, more than 10000"),
        ] {
            let error = shown(text).unwrap_err();
            assert!(error.contains(what), "{text:.80}: {error}");
        }
        let deep = format!("{}{}", "[".repeat(10_000), "]".repeat(10_000));
        assert!(parse(&deep).is_err());
        let labels: Vec<String> = (0..65).map(|n| format!("l{n}: x")).collect();
        let text = format!("- targets: [a:1]\n  labels: {{ {} }}", labels.join(", "));
        assert!(parse(&text).unwrap_err().contains("more than 64 labels"));
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_panic(text in any::<String>()) {
            for text in [text.clone(), format!("- targets: [{text}]"), format!("[{text}]")] {
                let _ = parse(&text);
            }
        }
    }
}
