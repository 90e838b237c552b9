//! The policy that has somebody else decide: a service of the configuration is asked about each request.
//!
//! It is asked over HTTP ([`Ask::Path`], as Traefik's forward-auth and nginx' `auth_request` ask, and [`Ask::Prefix`],
//! as Envoy's HTTP service) or over gRPC ([`Ask::Grpc`], Envoy's `envoy.service.auth.v3.Authorization/Check`), along an
//! internal route, so that balancing, health checks and breakers of that service hold. Its answer may change what the
//! service behind is told and what the client gets; nothing that a client sends under the names of such fields goes
//! any further, whatever the answer.
//!
//! An answer that cannot be had or understood closes, unless the settings say that it opens.

mod check;
mod http;

use std::{borrow::Cow, fmt, pin::pin, rc::Rc, sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::future::{Either, select};
use weft_kernel::{Error, Name, Reason, Result};
use weft_net::body::Body;
use weft_proxy::{
    BodyEnd, DryRun, Fact, Flow, Foreseen, OutgoingContext, Policy, PolicyMaker, PolicyOutcome,
    Reading, Reply, RequestContext, ResponseContext, Sides, Stage, WorkerClient, plan::Binding,
};
use weft_wire::{Fields, Known, RequestHead, ResponseHead, fields::is_alike};

use crate::{
    authentication::{Introduction, introduce, is_ours},
    consumer::Consumer,
    login_cookies,
};

/// The name under which the policy is made.
pub const EXTERNAL_AUTHORIZATION: &str = "external_authorization";

/// The most bytes of an answer that a client is given.
const ANSWER_BYTES_MAX: usize = 256 * 1024;

/// The most fields that an answer may change, of request and response together.
const CHANGES_MAX: usize = 128;

/// The most bytes of names and values of these fields.
const CHANGES_BYTES_MAX: usize = 64 * 1024;

/// How a service is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ask {
    /// GET of this path, with the request in `X-Forwarded-*`.
    Path(Box<str>),
    /// The method and the path of the request, behind this prefix.
    Prefix(Box<str>),
    /// Envoy's `Check`, with these words beside the request.
    Grpc(Vec<(String, String)>),
}

/// Settings of the policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExternalAuthorization {
    /// The service that decides.
    pub service: Name,
    /// How it is asked.
    pub ask: Ask,
    /// The fields of a request that it is shown, in lower case; all of them without any.
    pub shown: Vec<Box<str>>,
    /// The fields of its answer that the service behind is told.
    pub to_service: Vec<Box<str>>,
    /// The fields of its answer, over HTTP, that the client gets with the response.
    pub to_client: Vec<Box<str>>,
    /// The largest body that it is shown; without one, it is shown none.
    pub body_bytes_max: Option<usize>,
    /// The time for its answer.
    pub timeout: Duration,
    /// Whether requests go on when there is no answer.
    pub opens: bool,
}

impl fmt::Display for ExternalAuthorization {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let by = match &self.ask {
            Ask::Path(path) => path,
            Ask::Prefix(prefix) => prefix,
            Ask::Grpc(_) => "gRPC",
        };
        let else_ = if self.opens { ", opens when it is away" } else { "" };
        write!(f, "{} ({by}){else_}", self.service)
    }
}

/// The name of the internal route by which a service is asked.
pub fn route(service: &Name) -> Name {
    Name::new(&format!("authorize/{service}")).unwrap_or_else(|_too_long| service.clone())
}

/// Makes policies of settings.
#[derive(Clone, Copy, Debug, Default)]
pub struct ExternalMaker;

impl PolicyMaker for ExternalMaker {
    fn make(&self, binding: &Binding) -> Result<Arc<dyn Policy>, String> {
        let settings: ExternalAuthorization = binding.settings()?;
        Ok(Arc::new(External { route: route(&settings.service), settings }))
    }
}

/// The policy of a route.
struct External {
    route: Name,
    settings: ExternalAuthorization,
}

/// What became of the question, for log and metrics.
#[derive(Clone, Copy)]
enum Decision {
    Allowed,
    Denied,
    Failed,
    /// There was no answer, and the request goes on.
    Opened,
}

impl Fact for Decision {
    fn told(&self) -> Option<(&'static str, Cow<'_, str>)> {
        let word = match self {
            Self::Allowed => "allowed",
            Self::Denied => "denied",
            Self::Failed => "failed",
            Self::Opened => "failed_open",
        };
        Some((EXTERNAL_AUTHORIZATION, word.into()))
    }

    fn is_counted(&self) -> bool {
        true
    }
}

/// What is to be changed of the request and of the response.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Changes {
    request: Vec<Change>,
    response: Vec<Change>,
    /// Whether the request brings its changes along, since it was kept with them.
    is_carried: bool,
}

impl Fact for Changes {}

/// One field that is changed.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Change {
    name: Box<str>,
    how: How,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum How {
    /// In place of those of its name.
    Set(Box<[u8]>),
    /// Beside those of its name.
    Append(Box<[u8]>),
    /// If there is none of its name.
    IfAbsent(Box<[u8]>),
    /// In place of those of its name, if there are any.
    IfPresent(Box<[u8]>),
    /// There is to be none.
    Remove,
}

impl Change {
    /// A change; `None` of a field that nobody but Weft may change, or that cannot be one.
    fn new(name: &str, how: How) -> Option<Self> {
        let name = name.to_ascii_lowercase();
        let fits = match &how {
            How::Remove => true,
            How::Set(value) | How::Append(value) | How::IfAbsent(value) | How::IfPresent(value) => {
                Fields::new().append(&name, value)
            }
        };
        (fits && may_change(&name)).then(|| Self { name: name.into(), how })
    }

    fn apply(&self, fields: &mut Fields) {
        let name = &*self.name;
        match &self.how {
            How::Set(value) => drop(fields.set_alone(name, value)),
            How::Append(value) => drop(fields.append(name, value)),
            How::IfAbsent(value) if fields.named(name).is_none() => {
                fields.append(name, value);
            }
            How::IfPresent(value) if fields.named(name).is_some() => {
                fields.set_named(name, value);
            }
            How::IfAbsent(_) | How::IfPresent(_) => {}
            How::Remove => fields.remove_alike(name),
        }
    }
}

/// Whether a field is one that somebody else may change: not what frames a message or belongs to a connection, and
/// not what tells the consumer.
pub fn may_change(name: &str) -> bool {
    const NEVER: [&str; 11] = [
        "connection",
        "content-length",
        "expect",
        "host",
        "keep-alive",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "via",
    ];
    !name.starts_with(':') && !NEVER.iter().any(|of| is_alike(of, name)) && !is_ours(name)
}

/// What an answer says.
#[derive(Debug)]
enum Said {
    Allowed(Changes),
    /// The client gets this: status, fields and body.
    Denied(u16, Fields, Bytes),
}

/// Whether an answer changes no more fields than it may: each is looked for among all others.
fn are_few(sizes: impl Iterator<Item = usize>) -> Result<(), Fault> {
    let (mut count, mut bytes) = (0, 0);
    for size in sizes {
        count += 1;
        bytes += size;
        if count > CHANGES_MAX {
            return Err(format!("the answer changes more than {CHANGES_MAX} fields").into());
        }
        if bytes > CHANGES_BYTES_MAX {
            let say = format!("the answer changes more than {CHANGES_BYTES_MAX} bytes of fields");
            return Err(say.into());
        }
    }
    Ok(())
}

/// Why there is none, for the log.
type Fault = Cow<'static, str>;

/// What is asked.
struct Question {
    head: RequestHead,
    body: Bytes,
}

impl External {
    /// Asks, in the time for it and no longer than the request may take.
    async fn ask(&self, cx: &mut RequestContext<'_>) -> Result<Result<Said, Fault>> {
        let body = match self.settings.body_bytes_max {
            Some(bytes_max) => cx.read_body(bytes_max).await?,
            None => Bytes::new(),
        };
        let question = match &self.settings.ask {
            Ask::Grpc(extensions) => check::question(&self.settings, extensions, cx, &body),
            _ => http::question(&self.settings, cx, body),
        };
        let client = WorkerClient::new(Rc::clone(cx.local()))?;
        let reading = Reading {
            bytes_max: ANSWER_BYTES_MAX,
            whole_max: Some(self.settings.timeout),
            body_max: self.settings.timeout,
        };
        let until = cx.now().plus(self.settings.timeout);
        let answered = {
            let sent = pin!(client.send(&self.route, question.head, question.body, reading));
            match select(sent, pin!(cx.wait(until))).await {
                Either::Left((answered, _)) => answered,
                Either::Right((Err(late), _)) => return Err(late),
                Either::Right((Ok(()), _)) => return Ok(Err("no answer in time".into())),
            }
        };
        let answered = match answered {
            Ok(answered) => answered,
            Err(error) => return Ok(Err(error.detail().into())),
        };
        if let Some(reason) = answered.reason {
            return Ok(Err(reason.word().into()));
        }
        if answered.end != BodyEnd::Whole {
            return Ok(Err("the answer is too long, or broke off".into()));
        }
        Ok(match &self.settings.ask {
            Ask::Grpc(_) => check::read(&self.settings, &answered),
            _ => http::read(&self.settings, answered),
        })
    }

    /// Ends the request, or lets it on.
    fn settle(
        &self,
        said: Result<Said, Fault>,
        cx: &mut RequestContext<'_>,
    ) -> Result<Option<Reply>> {
        match said {
            Ok(Said::Allowed(changes)) => {
                cx.leave(Decision::Allowed);
                cx.leave(changes);
                Ok(None)
            }
            Ok(Said::Denied(status, fields, body)) => {
                cx.leave(Decision::Denied);
                if !cx.is_grpc() {
                    return Ok(Some(Reply::new(ResponseHead { status, fields }, Body::full(body))));
                }
                // A client of gRPC reads nothing but a status of gRPC.
                Err(match status {
                    401 => Error::new(Reason::Unauthenticated, "the request is not authenticated"),
                    _ => Error::new(Reason::AuthorizationDenied, "the request is not allowed"),
                })
            }
            Err(_) if self.settings.opens => {
                cx.leave(Decision::Opened);
                Ok(None)
            }
            Err(why) => {
                cx.leave(Decision::Failed);
                let say = "it cannot be decided at the moment whether the request is allowed";
                let service = &self.settings.service;
                Err(Error::new(Reason::AuthorizationUnavailable, say)
                    .note(format!("service {service}: {why}")))
            }
        }
    }

    /// Makes of a request what a service is to see: nothing of the client's own under the names of an answer.
    fn change(&self, changes: Option<&Changes>, fields: &mut Fields) {
        let changes = match changes {
            Some(changes) if changes.is_carried => return,
            Some(changes) => &changes.request[..],
            None => &[],
        };
        let is_told = |name: &str| changes.iter().any(|change| *change.name == *name);
        for name in &self.settings.to_service {
            // What is said of a field, such as that it stands beside those of its name, counts for that name alone.
            let stays = is_told(name);
            fields.retain(|of, _| !is_alike(of, name) || (stays && of == &**name));
        }
        changes.iter().for_each(|change| change.apply(fields));
    }
}

impl Policy for External {
    fn stage(&self) -> Stage {
        Stage::Authorization
    }

    fn sides(&self) -> Sides {
        Sides { request: true, outgoing: true, response: true, body: false }
    }

    fn request<'a>(&'a self, cx: &'a mut RequestContext<'_>) -> Flow<'a> {
        if cx.is_internal() {
            // What was kept was let through, and has its changes in it; what begins here is asked about by nobody.
            cx.leave(Changes { is_carried: true, ..Changes::default() });
            return Flow::Next;
        }
        Flow::wait(async move {
            let said = self.ask(cx).await?;
            self.settle(said, cx)
        })
    }

    fn name(&self) -> &'static str {
        EXTERNAL_AUTHORIZATION
    }

    fn foresee(&self, cx: &mut DryRun<'_>) -> Foreseen {
        let _ = cx;
        Foreseen::of(
            PolicyOutcome::Asks,
            format!("service `{}` would be asked", self.settings.service),
        )
    }

    fn outgoing(&self, cx: &mut OutgoingContext<'_>) {
        let changes = cx.fact::<Changes>().cloned();
        self.change(changes.as_ref(), &mut cx.head_mut().fields);
    }

    fn takes_off(&self, name: &str) -> bool {
        self.settings.to_service.iter().any(|of| is_alike(of, name))
    }

    fn keep(&self, cx: &mut OutgoingContext<'_>) {
        self.outgoing(cx);
    }

    fn response<'a>(&'a self, cx: &'a mut ResponseContext<'_>) -> Flow<'a> {
        let Some(changes) = cx.fact::<Changes>().filter(|changes| !changes.response.is_empty())
        else {
            return Flow::Next;
        };
        let changes = changes.response.clone();
        let fields = &mut cx.head_mut().fields;
        changes.iter().for_each(|change| change.apply(fields));
        Flow::Next
    }
}

/// The fields of a request as the one that decides is shown them, without what belongs to the connection, to the body
/// or to the time, and with the consumer and the claims that are known. Of the client and the way of the request they
/// say what a service will be told.
fn shown(settings: &ExternalAuthorization, cx: &RequestContext<'_>) -> Fields {
    const NOT_SHOWN: [Known; 6] = [
        Known::ContentLength,
        Known::TransferEncoding,
        Known::Expect,
        Known::Te,
        Known::GrpcTimeout,
        Known::XRequestTimeout,
    ];
    let mut head = cx.head().clone();
    match settings.ask {
        Ask::Grpc(_) => cx.hand_on(&mut head),
        // The question itself says the way of the request.
        Ask::Path(_) | Ask::Prefix(_) => head.fields.strip_hop_by_hop(false),
    }
    let mut fields = head.fields;
    NOT_SHOWN.into_iter().for_each(|known| fields.remove(known));
    let all = settings.shown.is_empty();
    fields
        .retain(|name, _| !is_ours(name) && (all || settings.shown.iter().any(|it| **it == *name)));
    if let Some(kept) = cx.fact::<login_cookies::Kept>() {
        kept.hide(&mut fields);
    }
    if let Some(introduction) = cx.fact::<Introduction>() {
        introduction.claim(&mut fields);
    }
    if let Some(consumer) = cx.fact::<Consumer>() {
        introduce(consumer, &mut fields);
    }
    fields
}

#[cfg(test)]
mod tests;
