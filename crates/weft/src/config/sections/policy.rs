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
    /// Kind of failure after which a try is repeated.
    pub enum Condition {
        /// connect failure
        ConnectFailure = "connect-failure" | "connect_failure",
        /// HTTP/2 stream refused before processing
        RefusedStream = "refused-stream" | "refused_stream",
        /// connection ended before a response
        Reset = "reset-before-headers" | "reset_before_headers" | "reset",
        /// 502, 503 or 504
        GatewayError = "gateway-error" | "gateway_error",
        /// any 5xx
        ServerError = "5xx",
        /// timeout of one try
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

    /// Priority of a request under overload: who is shed first.
    pub enum Criticality {
        /// shed last
        Critical = "critical",
        /// shed before `critical`
        Default = "default",
        /// shed first
        Sheddable = "sheddable",
    }
}

settings! {
    /// Settings for the requests of a route. Of several policies the later wins, key by key, and what a route
    /// says itself wins over all; lists are replaced as a whole.
    pub struct Policy = "policy" {
        /// Timeouts.
        timeout: Timeout,
        /// Retries.
        retry: Switch<Retry> = "on",
        /// Hedging: a second try beside a slow first one.
        hedge: Switch<Hedge> = "off",
        /// Maximum size of a request body; `off` for no limit.
        body_max: Switch<ByteSize> = "10MiB",
        /// Priority of a request under overload: who is shed first.
        criticality: CriticalityOf = "default",
        /// Bulkhead: a limit of concurrent requests for each route that has one.
        bulkhead: Switch<Bulkhead> = "off",
        /// Changes to header fields of requests and responses.
        headers: Headers,
        /// Fault injection.
        fault: Fault,
        /// Mirror: a service that gets a copy of a share of the requests; its responses are dropped.
        mirror: At<Switch<Whole<Mirror>>> = "off",
        /// Fallback for a target that cannot answer.
        fallback: At<Switch<Whole<Fallback>>> = "off",
    }

    /// Timeouts of a request; `off` for none.
    pub struct Timeout = "timeout", short "request" {
        /// Timeout for the response to a request, all tries included.
        request: At<Limit> = "15s",
        /// Timeout for one try.
        per_try: At<Limit> = "off",
        /// Timeout for connecting to an endpoint.
        connect: Span = "1s",
        /// Idle timeout of a stream: the longest time without a byte in either direction.
        idle: Span = "5m",
    }

    /// Retries of failed tries.
    pub struct Retry = "retry", short "retries" {
        /// Number of retries after the first try.
        retries: Int<0, 10> = "1",
        /// Failures after which a try is repeated.
        on: Many<Condition> = "[connect-failure, refused-stream, reset-before-headers, gateway-error, grpc-unavailable]",
        /// Further statuses after which a try is repeated.
        statuses: Many<Status>,
        /// Backoff between tries.
        backoff: Backoff,
        /// Maximum `Retry-After` that is honoured; a longer one ends the tries.
        retry_after_max: Duration = "1s",
        /// Whether methods that are not idempotent are retried even if the first try may have had an effect.
        unsafe_methods: bool = "false",
        /// Maximum size of a body that is buffered for retries; a request with a longer one is tried once.
        replay_max: At<ByteSize> = "64KiB",
    }

    /// Exponential backoff with full jitter: the wait is random between zero and a bound that doubles.
    pub struct Backoff = "backoff" {
        /// Bound of the first wait.
        base: At<Span> = "25ms",
        /// Maximum of the bound.
        max: Span = "250ms",
    }

    /// Hedging: a second try beside a slow first one.
    pub struct Hedge = "hedge", short "delay" {
        /// Delay after which a hedge starts: a duration, or a quantile of the latencies seen so far, such as `p95`.
        delay: HedgeDelay = "p95",
        /// Maximum number of hedges of one request.
        max: Int<1, 5> = "1",
        /// Budget: the share of requests that may be hedged.
        budget: Share = "0.05",
    }

    /// Source of a request's criticality.
    pub struct CriticalityOf = "criticality", short "default" {
        /// Criticality without the header.
        default: Criticality = "default",
        /// Header field with the criticality, where clients are trusted to say it.
        header: Option<HeaderName>,
    }

    /// Limit of concurrent requests.
    pub struct Bulkhead = "bulkhead", short "in_flight_max" {
        /// Maximum number of requests in flight.
        in_flight_max: Count,
        /// Maximum number of requests that wait for a place.
        queue_max: Number = "1024",
        /// Timeout of the wait for a place.
        queue_timeout: Duration = "1s",
    }

    /// Changes to header fields of requests and responses.
    pub struct Headers = "headers" {
        /// Changes to the request before it is sent on.
        request: RequestOps,
        /// Changes to the response before it is sent back.
        response: HeaderOps,
    }

    /// Fault injection.
    pub struct Fault = "fault" {
        /// Delay before a request is handled.
        delay: Option<FaultDelay>,
        /// Abort: a status instead of handling the request.
        abort: Option<FaultAbort>,
    }

    /// Injected delay.
    pub struct FaultDelay = "fault delay", short "for" {
        /// Length of the delay.
        span("for"): Span,
        /// Share of requests that it applies to.
        share: Share = "1",
        /// Header field of the requests that it applies to; every request otherwise.
        header: Pairs<HeaderName, HeaderValue>,
    }

    /// Injected abort.
    pub struct FaultAbort = "fault abort", short "status" {
        /// Status of the response.
        status: Status,
        /// Share of requests that it applies to.
        share: Share = "1",
        /// Header field of the requests that it applies to; every request otherwise.
        header: Pairs<HeaderName, HeaderValue>,
    }

    /// Mirror: copies of a share of the requests.
    pub struct Mirror = "mirror", short "to" {
        /// Service that gets the copies.
        to: At<Name>,
        /// Share of requests that is copied.
        share: Share = "1",
        /// Maximum size of a request body; a request with a longer one is not copied.
        body_max: ByteSize = "64KiB",
    }

    /// Fallback for a target that cannot answer.
    pub struct Fallback = "fallback", short "to" {
        /// Service that is asked instead.
        to: Option<At<Name>>,
        /// Fixed response.
        respond: Option<Respond>,
        /// Statuses of the target that count as failure, beside Weft's own errors.
        statuses: Many<Statuses>,
    }
}

/// A timeout, or none: `off` or `0`.
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

/// Start of a hedge.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum HedgeDelay {
    /// After this delay.
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
