//! What a policy may say; every key may stand in a route as well.

use std::time::Duration;

use weft_kernel::{ByteSize, Name};

use crate::config::{
    leaf::{Count, Int, Many, Number, Pairs, Share, Some1, Span, Switch, Whole},
    problem::Problem,
    sections::target::Respond,
    setting::{At, Cx, Setting, Shape, settings, words},
    text::{HeaderName, HeaderOps, HeaderValue, RequestOps, Status, Statuses},
    tree::Node,
};

words! {
    /// A failure that may be tried again.
    pub enum Condition {
        /// no connection came to be
        ConnectFailure = "connect-failure" | "connect_failure",
        /// HTTP/2 said that nothing was done
        RefusedStream = "refused-stream" | "refused_stream",
        /// the connection ended before a response
        Reset = "reset-before-headers" | "reset_before_headers" | "reset",
        /// 502, 503 or 504
        GatewayError = "gateway-error" | "gateway_error",
        /// any 5xx
        ServerError = "5xx",
        /// the time for one try was up
        TryTimeout = "try-timeout" | "try_timeout",
        /// gRPC UNAVAILABLE
        GrpcUnavailable = "grpc-unavailable" | "grpc_unavailable",
        /// gRPC CANCELLED
        GrpcCancelled = "grpc-cancelled" | "grpc_cancelled",
        /// gRPC DEADLINE_EXCEEDED
        GrpcDeadline = "grpc-deadline-exceeded" | "grpc_deadline_exceeded",
        /// gRPC RESOURCE_EXHAUSTED
        GrpcExhausted = "grpc-resource-exhausted" | "grpc_resource_exhausted",
        /// gRPC INTERNAL
        GrpcInternal = "grpc-internal" | "grpc_internal",
    }

    /// Which requests are given up first under overload.
    pub enum Criticality {
        /// last
        Critical = "critical",
        /// in between
        Default = "default",
        /// first
        Sheddable = "sheddable",
    }
}

settings! {
    /// How requests are treated. Of several policies the later wins, key by key, and what a route
    /// says itself wins over all; lists are replaced as a whole.
    pub struct Policy = "policy" {
        /// Time limits.
        timeout: Timeout,
        /// Whether and how a failed try is repeated.
        retry: Switch<Retry> = "on",
        /// Whether a second try is started beside a slow first one.
        hedge: Switch<Hedge> = "off",
        /// Largest request body; `off` for no bound.
        body_max: Switch<ByteSize> = "10MiB",
        /// Which requests are given up first under overload.
        criticality: CriticalityOf = "default",
        /// A private share of concurrency for each route with it.
        bulkhead: Switch<Bulkhead> = "off",
        /// Changes to the fields of requests and responses.
        headers: Headers,
        /// Faults that are injected on purpose.
        fault: Fault,
        /// A share of requests is sent there too; its answers are dropped.
        mirror: At<Switch<Whole<Mirror>>> = "off",
        /// What answers when the target cannot.
        fallback: At<Switch<Whole<Fallback>>> = "off",
        /// Whether a client may ask to be answered later, with `Prefer: respond-async`.
        respond_async: Switch<RespondAsync> = "off",
    }

    /// How a request is answered later: it is kept, answered with 202 and a status URL, and carried out
    /// from there.
    pub struct RespondAsync = "async response", short "wait_max" {
        /// The longest time that a client may ask to wait for the answer itself, with `wait=`.
        wait_max: Span = "30s",
        /// How long the answer is kept for the client.
        keep: Span = "24h",
        /// Beginnings of URLs that a client may name to be told of the end; none otherwise.
        callbacks: Many<String>,
    }

    /// Time limits of a request; `off` for none.
    pub struct Timeout = "timeout", short "request" {
        /// For the answer to a whole request, all tries included.
        request: At<Limit> = "15s",
        /// For one try.
        per_try: At<Limit> = "off",
        /// For connecting.
        connect: Span = "1s",
        /// Longest silence of a stream.
        idle: Span = "5m",
    }

    /// How a failed try is repeated.
    pub struct Retry = "retry", short "retries" {
        /// How many more tries.
        retries: Int<0, 10> = "1",
        /// After which failures.
        on: Many<Condition> = "[connect-failure, refused-stream, reset-before-headers, gateway-error, grpc-unavailable]",
        /// Further statuses that are tried again.
        statuses: Many<Status>,
        /// How long to wait in between.
        backoff: Backoff,
        /// Longest `Retry-After` that is waited for; a longer one ends the tries.
        retry_after_max: Duration = "1s",
        /// Whether methods that are not idempotent are tried again even if something may have been done.
        unsafe_methods: bool = "false",
        /// Largest body that is kept for another try; a longer one is tried once.
        replay_max: At<ByteSize> = "64KiB",
    }

    /// How long to wait between tries: at random between nothing and a bound that doubles.
    pub struct Backoff = "backoff" {
        /// The first bound.
        base: At<Span> = "25ms",
        /// The last.
        max: Span = "250ms",
    }

    /// A second try beside a slow first one.
    pub struct Hedge = "hedge", short "delay" {
        /// When it starts: a duration, or a quantile of the latencies seen so far, such as `p95`.
        delay: HedgeDelay = "p95",
        /// How many more.
        max: Int<1, 5> = "1",
        /// The share of requests that may have one.
        budget: Share = "0.05",
    }

    /// Where the criticality of a request comes from.
    pub struct CriticalityOf = "criticality", short "default" {
        /// What it is without the header.
        default: Criticality = "default",
        /// A header field that says it, if clients are to be trusted with that.
        header: Option<HeaderName>,
    }

    /// A bound on what is in flight.
    pub struct Bulkhead = "bulkhead", short "in_flight_max" {
        /// Most requests in flight.
        in_flight_max: Count,
        /// Most requests that wait.
        queue_max: Number = "1024",
        /// Longest wait.
        queue_timeout: Duration = "1s",
    }

    /// Changes to the fields of requests and responses.
    pub struct Headers = "headers" {
        /// Before a request is sent on.
        request: RequestOps,
        /// Before a response is sent back.
        response: HeaderOps,
    }

    /// Faults that are injected on purpose.
    pub struct Fault = "fault" {
        /// Waits before the request is handled.
        delay: Option<FaultDelay>,
        /// Answers with a status instead of handling the request.
        abort: Option<FaultAbort>,
    }

    /// A wait.
    pub struct FaultDelay = "fault delay", short "for" {
        /// How long.
        span("for"): Span,
        /// The share of requests.
        share: Share = "1",
        /// Only requests with this field.
        header: Pairs<HeaderName, HeaderValue>,
    }

    /// An answer.
    pub struct FaultAbort = "fault abort", short "status" {
        /// Its status.
        status: Status,
        /// The share of requests.
        share: Share = "1",
        /// Only requests with this field.
        header: Pairs<HeaderName, HeaderValue>,
    }

    /// A copy of a share of the requests.
    pub struct Mirror = "mirror", short "to" {
        /// The service that copies go to.
        to: At<Name>,
        /// Their share.
        share: Share = "1",
        /// A request with a longer body is not copied.
        body_max: ByteSize = "64KiB",
    }

    /// What answers when the target cannot.
    pub struct Fallback = "fallback", short "to" {
        /// Another service.
        to: Option<At<Name>>,
        /// A fixed response.
        respond: Option<Respond>,
        /// Statuses of the target that count as failure, beside Weft's own refusals.
        statuses: Many<Statuses>,
    }
}

/// A time limit, or none: `off` or `0`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit(pub Option<Duration>);

impl Setting for Limit {
    fn shape() -> Shape {
        Shape::Switch(Box::new(Duration::shape()))
    }

    fn read(node: &Node, cx: &mut Cx) -> Option<Self> {
        if crate::config::leaf::is_off(node) {
            return Some(Self(None));
        }
        let span = Duration::read(node, cx)?;
        if span.is_zero() {
            cx.report(
                Problem::warning(node.place, "a timeout of 0 means none at all")
                    .help("write `off` if that is meant"),
            );
            return Some(Self(None));
        }
        Some(Self(Some(span)))
    }
}

/// When a hedge starts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum HedgeDelay {
    /// After this time.
    Fixed(Duration),
    /// At this quantile of the latencies seen.
    Quantile(f64),
}

impl Setting for HedgeDelay {
    fn shape() -> Shape {
        Shape::Either(vec![
            Duration::shape(),
            Shape::Text { what: "quantile", pattern: Some(r"^p[0-9]{1,2}(\.[0-9]+)?$") },
        ])
    }

    fn read(node: &Node, cx: &mut Cx) -> Option<Self> {
        let text = cx.text(node, "a duration or a quantile such as p95")?;
        let Some(percent) = text.strip_prefix('p') else {
            return Span::read(node, cx).map(|span| Self::Fixed(span.0));
        };
        match percent.parse::<f64>() {
            Ok(percent) if percent > 0.0 && percent < 100.0 => {
                Some(Self::Quantile(percent / 100.0))
            }
            _ => {
                cx.expected(node, "a duration or a quantile such as p95");
                None
            }
        }
    }
}

/// Services or names, at least one.
pub type Names = Some1<At<Name>>;
