//! A route, compiled: its policies made ready, its target resolved.

use std::{collections::HashMap, sync::Arc};

use weft_kernel::{Name, Rng};
use weft_resilience::{bulkhead, hedge};
use weft_telemetry::metrics::RouteMeter;
use weft_wire::{Fields, fields, h1};

use crate::{
    handler::{Handlers, LocalTarget},
    plan::{self, FallbackTo, HeaderOps, Weighted},
    policy::{BodyLimit, FaultInjection, HeaderChanges, Mirror, Policies, Policy},
    rewrite::{Redirector, Rewriter},
    router::template_names,
    upstream::Upstream,
};

/// A route, compiled.
pub struct Route {
    /// Its name.
    pub name: Name,
    /// Its metrics.
    pub meter: Arc<RouteMeter>,
    /// How its requests are treated.
    pub policy: Arc<plan::RoutePolicies>,
    pub(crate) target: Target,
    pub(crate) rewrite: Rewriter,
    /// The names of what is captured of the path, for each of its matches.
    pub(crate) captured: Box<[Box<[Box<str>]>]>,
    pub(crate) bulkhead: Option<bulkhead::Bulkhead>,
    pub(crate) hedger: Option<Arc<hedge::Hedger>>,
    pub(crate) mirror: Option<Arc<Upstream>>,
    pub(crate) fallback: Option<Fallback>,
    pub(crate) policies: Policies,
    /// What it was compiled from.
    pub(crate) plan: Arc<plan::Route>,
}

/// Where requests go.
pub(crate) enum Target {
    Services(Split),
    Redirect(Redirector),
    Respond(plan::Respond),
    Local(Arc<dyn LocalTarget>),
}

/// What answers when the target cannot.
pub(crate) enum Fallback {
    Service(Arc<Upstream>),
    Respond(plan::Respond),
}

/// Services and their shares.
pub(crate) struct Split {
    /// Each with the sum of the weights up to and with it.
    services: Vec<(u64, Arc<Upstream>)>,
}

impl Split {
    pub(crate) fn compile(
        weighted: &[Weighted],
        services: &HashMap<Name, Arc<Upstream>>,
    ) -> Result<Self, String> {
        let mut sum = 0;
        let mut compiled = Vec::with_capacity(weighted.len());
        for Weighted { service, weight } in weighted {
            let upstream = services
                .get(service)
                .ok_or_else(|| format!("service `{service}` does not exist"))?;
            if *weight > 0 {
                sum += u64::from(*weight);
                compiled.push((sum, upstream.clone()));
            }
        }
        if compiled.is_empty() {
            return Err("no service has a weight above 0".into());
        }
        Ok(Self { services: compiled })
    }

    pub(crate) fn choose(&self, rng: &mut Rng) -> Option<&Arc<Upstream>> {
        let (sum, last) = self.services.last()?;
        if self.services.len() == 1 {
            return Some(last);
        }
        let drawn = rng.below(*sum);
        self.services.iter().find(|(upto, _)| drawn < *upto).map(|(_, upstream)| upstream)
    }
}

/// The names of what a match captures of the path.
fn captured(of: &plan::Match) -> Box<[Box<str>]> {
    template_names(&of.path).into_iter().map(Into::into).collect()
}

impl Route {
    /// Compiles a route; what `before` has learnt is kept where its settings are the same.
    pub(crate) fn compile(
        plan: &Arc<plan::Route>,
        services: &HashMap<Name, Arc<Upstream>>,
        handlers: &Handlers,
        meter: Arc<RouteMeter>,
        before: Option<&Self>,
    ) -> Result<Self, String> {
        let policy = Arc::clone(&plan.policy);
        let before = before.map(|before| (before, &before.policy));
        check_request_ops(&policy.request_headers)?;
        check_ops(&policy.response_headers)?;
        let find = |name: &Name| {
            services.get(name).cloned().ok_or_else(|| format!("service `{name}` does not exist"))
        };
        let target = match &plan.target {
            plan::Target::Services(weighted) => {
                Target::Services(Split::compile(weighted, services)?)
            }
            plan::Target::Redirect(redirect) => {
                Target::Redirect(Redirector::compile(redirect, &plan.matches)?)
            }
            plan::Target::Respond(respond) => {
                check_respond(respond)?;
                Target::Respond(respond.clone())
            }
            plan::Target::Local(binding) => Target::Local(handlers.target(binding)?),
        };
        let fallback = match policy.fallback.as_ref().map(|fallback| &fallback.to) {
            None => None,
            Some(FallbackTo::Service(name)) => Some(Fallback::Service(find(name)?)),
            Some(FallbackTo::Respond(respond)) => {
                check_respond(respond)?;
                Some(Fallback::Respond(respond.clone()))
            }
        };
        let mirror = policy.mirror.as_ref().map(|mirror| find(&mirror.service)).transpose()?;
        let named = policy.policies.iter().map(|binding| {
            // One whose settings are the same goes on, with what it has counted.
            let known = before.and_then(|(before, policy)| {
                let at = policy.policies.iter().position(|known| known == binding)?;
                before.policies.named.get(at).cloned()
            });
            known.map_or_else(|| handlers.policy(binding), Ok)
        });
        let named = named.collect::<Result<Vec<_>, String>>()?;
        let policies = Policies::new(own_policies(&policy, mirror.as_ref()), named);
        Ok(Self {
            name: plan.name.clone(),
            meter,
            target,
            rewrite: Rewriter::compile(&plan.rewrite, &plan.matches)?,
            captured: plan.matches.iter().map(captured).collect(),
            bulkhead: match before.filter(|(_, before)| before.bulkhead == policy.bulkhead) {
                Some((before, _)) => before.bulkhead.clone(),
                None => policy.bulkhead.clone().map(bulkhead::Bulkhead::new),
            },
            hedger: match before.filter(|(_, before)| before.hedge == policy.hedge) {
                Some((before, _)) => before.hedger.clone(),
                None => policy.hedge.clone().map(|options| Arc::new(hedge::Hedger::new(options))),
            },
            mirror,
            fallback,
            policies,
            policy,
            plan: Arc::clone(plan),
        })
    }

    /// Whether compiling `plan` anew would make just this.
    pub(crate) fn is_still(
        &self,
        plan: &Arc<plan::Route>,
        services: &HashMap<Name, Arc<Upstream>>,
    ) -> bool {
        let same = |upstream: &Arc<Upstream>| {
            services.get(&upstream.name).is_some_and(|now| Arc::ptr_eq(now, upstream))
        };
        let split = match &self.target {
            Target::Services(split) => split.services.as_slice(),
            Target::Redirect(_) | Target::Respond(_) | Target::Local(_) => &[],
        };
        let fallback = match &self.fallback {
            Some(Fallback::Service(upstream)) => Some(upstream),
            Some(Fallback::Respond(_)) | None => None,
        };
        (Arc::ptr_eq(&self.plan, plan) || self.plan == *plan)
            && split.iter().map(|(_, upstream)| upstream).all(same)
            && self.mirror.iter().chain(fallback).all(same)
    }
}

/// The policies that the request path has itself.
fn own_policies(
    plan: &Arc<plan::RoutePolicies>,
    mirror: Option<&Arc<Upstream>>,
) -> Vec<Arc<dyn Policy>> {
    let mut policies: Vec<Arc<dyn Policy>> = Vec::new();
    if let Some(fault) = &plan.fault {
        policies.push(Arc::new(FaultInjection(fault.clone())));
    }
    if let Some(bytes_max) = plan.body_bytes_max.0 {
        policies.push(Arc::new(BodyLimit(bytes_max)));
    }
    if !(plan.request_headers.is_empty() && plan.response_headers.is_empty()) {
        policies.push(Arc::new(HeaderChanges(plan.clone())));
    }
    if let (Some(plan), Some(to)) = (&plan.mirror, mirror) {
        policies.push(Arc::new(Mirror { plan: plan.clone(), to: to.clone() }));
    }
    policies
}

/// Whether a field, its name in lower case, frames a message or belongs to one connection, so that who
/// changed it would break what is around it.
pub fn is_framing(name: &str) -> bool {
    const NAMES: [&str; 12] = [
        "connection",
        "content-length",
        "expect",
        "http2-settings",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    ];
    NAMES.contains(&name)
}

fn check_name(name: &str) -> Result<(), String> {
    if name.is_empty() || !name.bytes().all(fields::is_token) {
        return Err(format!("`{name}` is not a header name"));
    }
    if is_framing(&name.to_ascii_lowercase()) {
        return Err(format!("`{name}` frames a message or belongs to its connection"));
    }
    Ok(())
}

fn check_field(name: &str, value: &str) -> Result<(), String> {
    check_name(name)?;
    let mut probe = Fields::new();
    if !probe.append(&name.to_ascii_lowercase(), value.as_bytes()) {
        return Err(format!("`{name}: {value}` is not a header field"));
    }
    Ok(())
}

fn check_ops(ops: &HeaderOps) -> Result<(), String> {
    for (name, value) in ops.set.iter().chain(&ops.add) {
        check_field(name, value)?;
    }
    ops.remove.iter().try_for_each(|name| check_name(name))
}

/// Checks changes to a request: none may leave it without one good `Host`.
///
/// # Errors
/// What is wrong with them.
pub fn check_request_ops(ops: &HeaderOps) -> Result<(), String> {
    let is_host = |name: &str| name.eq_ignore_ascii_case("host");
    if ops.add.iter().any(|(name, _)| is_host(name)) {
        return Err("a request has one `host`: `set` it, or `rewrite` it".into());
    }
    let hosts = ops.set.iter().filter(|(name, _)| is_host(name));
    for (_, host) in hosts {
        if !h1::is_authority(host.as_bytes()) {
            return Err(format!("`{host}` is not a host"));
        }
    }
    check_ops(ops)
}

fn check_respond(respond: &plan::Respond) -> Result<(), String> {
    if !(200..=599).contains(&respond.status) {
        return Err(format!("{} is not a status that ends a request", respond.status));
    }
    respond.headers.iter().try_for_each(|(name, value)| check_field(name, value))
}

/// Carries out changes to a message head: removed first, then set, then added. `remove` takes a name off.
pub(crate) fn apply(ops: &HeaderOps, fields: &mut Fields, remove: fn(&mut Fields, &str)) {
    let set = ops.set.iter().map(|(name, _)| name);
    ops.remove.iter().chain(set).for_each(|name| remove(fields, name));
    for (name, value) in ops.set.iter().chain(&ops.add) {
        fields.append(&name.to_ascii_lowercase(), value.as_bytes());
    }
}
