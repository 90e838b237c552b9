//! What would become of a request: the route that it would get, and what each policy of that would decide.
//!
//! The policies are those of the running node, with what they have counted so far. Nothing is sent, counted or asked of
//! others for it: where somebody else decides, that is said.

use std::{collections::BTreeMap, net::IpAddr};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use weft_kernel::Name;
use weft_proxy::{PolicyOutcome, Snapshot, Step, Supposed, plan::Plan};
use weft_wire::{Method, RequestHead, Version};

use super::explain::{self, Asked, Question, Verdict, split_query};

/// The request that is asked about.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AskedRequest {
    /// Its method.
    pub method: String,
    /// Its URL, or its path alone; one of `https` comes by TLS.
    pub url: String,
    /// Its header fields.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    /// The one listener that is meant; all that speak HTTP otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub listener: Option<String>,
    /// The address of its client.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client: Option<IpAddr>,
}

/// What would become of the request.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ExplainedRequest {
    /// Its method.
    pub method: String,
    /// Its host, as it is matched.
    pub host: String,
    /// For each listener.
    pub listeners: Vec<RequestVerdict>,
}

/// What would become of the request on a listener.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RequestVerdict {
    /// The route that it gets, and why not another.
    pub matching: Verdict,
    /// The policies of that route, in the order in which they are asked.
    pub policies: Vec<PolicyStep>,
}

/// What a policy would make of the request.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PolicyStep {
    /// The place of the policy in the order.
    pub stage: String,
    /// The policy.
    pub policy: String,
    /// What becomes of the request there: `passes`, `takes_part` (it is seen only when the request comes), `asks`
    /// (somebody else decides), `answers`, `refuses` or `not_reached`.
    pub outcome: String,
    /// The status of the answer.
    pub status: Option<u16>,
    /// The reason for a refusal.
    pub reason: Option<String>,
    /// Why.
    pub why: String,
}

impl RequestVerdict {
    /// Whether nothing is known that keeps the request from its target.
    pub fn is_let_on(&self) -> bool {
        let ends = |step: &PolicyStep| step.status.is_some();
        self.matching.route.is_some() && !self.policies.iter().any(ends)
    }
}

impl From<Step> for PolicyStep {
    fn from(Step { stage, policy, foreseen }: Step) -> Self {
        let (outcome, status, reason) = match foreseen.outcome {
            PolicyOutcome::Passes => ("passes", None, None),
            PolicyOutcome::TakesPart => ("takes_part", None, None),
            PolicyOutcome::Asks => ("asks", None, None),
            PolicyOutcome::Answers(status) => ("answers", Some(status), None),
            PolicyOutcome::Refuses(reason) => {
                ("refuses", Some(reason.http()), Some(reason.word().into()))
            }
            PolicyOutcome::NotReached => ("not_reached", None, None),
        };
        Self {
            stage: stage.word().into(),
            policy: policy.into(),
            outcome: outcome.into(),
            status,
            reason,
            why: foreseen.why.into_owned(),
        }
    }
}

/// Explains a request over what is in force.
///
/// # Errors
/// What about the question cannot be understood.
pub fn explain(
    plan: &Plan,
    snapshot: &Snapshot,
    asked: AskedRequest,
) -> Result<ExplainedRequest, String> {
    let AskedRequest { method, url, headers, listener, client } = asked;
    let is_secure = url.get(..8).is_some_and(|start| start.eq_ignore_ascii_case("https://"));
    let asked = Asked { method, url, headers, listener };
    let table = |listener: &weft_proxy::plan::Listener| {
        Some(&*snapshot.listeners.get(&listener.name)?.table)
    };
    let explained = explain::explain(plan, table, &asked)?;
    let Question { method, target, fields, .. } = Question::of(&asked)?;
    let (_, query) = split_query(target);
    let step = |matching: Verdict| {
        let target = match query {
            Some(query) => format!("{}?{query}", matching.path),
            None => matching.path.clone(),
        };
        let head = RequestHead {
            method: Method::of(method),
            target,
            version: Version::Http11,
            fields: fields.clone(),
            upgrade: None,
        };
        let supposed = Supposed { head, client, is_secure };
        let steps = match (&matching.route, Name::new(&matching.listener)) {
            (Some(_), Ok(listener)) => snapshot.dry_run(&listener, &supposed),
            _ => Vec::new(),
        };
        RequestVerdict { matching, policies: steps.into_iter().map(PolicyStep::from).collect() }
    };
    Ok(ExplainedRequest {
        method: explained.method,
        host: explained.host,
        listeners: explained.listeners.into_iter().map(step).collect(),
    })
}
