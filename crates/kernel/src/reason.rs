//! The enumerated reasons for which Weft itself refuses or fails a request.
//!
//! One table gives each reason its word, code, side, retry and RFC 9209 `Proxy-Status` error type, so
//! that the access log, the metrics, the problem+json body and `Proxy-Status` can never disagree.
//! A word, once released, keeps its meaning.

use crate::error::{Code, Retry, Side};

macro_rules! reasons {
    ($($(#[doc = $doc:literal])+ $name:ident = $word:literal, $code:ident, $side:ident, $retry:ident, $proxy_status:literal;)+) => {
        /// Why Weft itself refused or failed a request.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum Reason { $($(#[doc = $doc])+ $name,)+ }

        impl Reason {
            /// Every reason, for tables and tests that must miss none.
            pub const ALL: &[Self] = &[$(Self::$name,)+];

            /// The stable word, the same in log, metric, problem+json `type` and `Proxy-Status` details.
            pub const fn word(self) -> &'static str {
                match self { $(Self::$name => $word,)+ }
            }

            /// The code that says how each protocol reports it.
            pub const fn code(self) -> Code {
                match self { $(Self::$name => Code::$code,)+ }
            }

            /// The HTTP status: the code's, but where HTTP has one of its own for it (RFC 9110, RFC 6585).
            pub const fn http(self) -> u16 {
                match self {
                    Self::HeadersTooLarge => 431,
                    Self::VersionNotSupported => 505,
                    Self::ExpectationFailed => 417,
                    Self::UpgradeRequired => 426,
                    Self::IdempotencyKeyReused | Self::SchemaMismatch => 422,
                    Self::Misdirected => 421,
                    _ => self.code().http(),
                }
            }

            /// Whose fault it is.
            pub const fn side(self) -> Side {
                match self { $(Self::$name => Side::$side,)+ }
            }

            /// Whether sending the request again helps.
            pub const fn retry(self) -> Retry {
                match self { $(Self::$name => Retry::$retry,)+ }
            }

            /// The proxy error type of RFC 9209 section 2.3.
            pub const fn proxy_status(self) -> &'static str {
                match self { $(Self::$name => $proxy_status,)+ }
            }

            /// What it means, in one sentence.
            pub const fn about(self) -> &'static str {
                match self { $(Self::$name => concat!($($doc),+),)+ }
            }
        }
    };
}

reasons! {
    /// No route matches the request.
    NoRoute = "no_route", NotFound, Caller, No, "destination_not_found";
    /// The path exists, but not for this method.
    MethodNotAllowed = "method_not_allowed", MethodNotAllowed, Caller, No, "http_request_denied";
    /// The credentials are missing or wrong.
    Unauthenticated = "unauthenticated", Unauthenticated, Caller, No, "http_request_denied";
    /// The token does not have the permission that the operation needs.
    PermissionDenied = "permission_denied", Denied, Caller, No, "http_request_denied";
    /// The connection was made for another host, whose clients show certificates otherwise.
    Misdirected = "misdirected", Denied, Caller, Safe, "http_request_denied";
    /// The token lacks a scope or a claim that the route needs.
    InsufficientScope = "insufficient_scope", Denied, Caller, No, "http_request_denied";
    /// A login of a browser cannot be completed.
    LoginFailed = "login_failed", Invalid, Caller, No, "http_request_denied";
    /// The issuer of a token cannot be asked for its keys, about the token, or for one for a service.
    IssuerUnavailable = "issuer_unavailable", Unavailable, Upstream, Safe, "destination_unavailable";
    /// The network of the client is not allowed on the route.
    NetworkDenied = "network_denied", Denied, Caller, No, "http_request_denied";
    /// The authorization of the route does not allow the request.
    Forbidden = "forbidden", Denied, Caller, No, "http_request_denied";
    /// The service that decides about requests has refused this one.
    AuthorizationDenied = "authorization_denied", Denied, Caller, No, "http_request_denied";
    /// The service that decides about requests does not answer.
    AuthorizationUnavailable = "authorization_unavailable", Unavailable, Upstream, Safe, "destination_unavailable";
    /// A rate limit of the route is reached.
    RateLimited = "rate_limited", RateLimited, Caller, Safe, "http_request_denied";
    /// The store that counts a rate limit for several nodes does not answer.
    LimitStoreUnavailable = "limit_store_unavailable", Unavailable, Upstream, Safe, "destination_unavailable";
    /// A quota of the route is used up.
    QuotaExceeded = "quota_exceeded", RateLimited, Caller, Safe, "http_request_denied";
    /// The route asks for an idempotency key, and the request has none.
    IdempotencyKeyMissing = "idempotency_key_missing", Invalid, Caller, No, "http_request_denied";
    /// The idempotency key was used for another request.
    IdempotencyKeyReused = "idempotency_key_reused", Invalid, Caller, No, "http_request_denied";
    /// A request with this idempotency key is being carried out.
    IdempotencyRunning = "idempotency_running", Conflict, Caller, Safe, "http_request_denied";
    /// A request with this idempotency key was begun, and what came of it is not known.
    IdempotencyUnknown = "idempotency_unknown", Conflict, Weft, No, "http_request_denied";
    /// A request with this idempotency key was carried out, and its answer is not kept.
    IdempotencyNotKept = "idempotency_not_kept", Conflict, Weft, No, "http_request_denied";
    /// The consumer has as many idempotency keys, or bytes of answers, as are kept for it.
    IdempotencyFull = "idempotency_full", Overloaded, Caller, Safe, "http_request_denied";
    /// A web page, or a request for a host name, may not use an API that has no token.
    OriginDenied = "origin_denied", Denied, Caller, No, "http_request_denied";
    /// Nothing has this name.
    NotFound = "not_found", NotFound, Caller, No, "destination_not_found";
    /// The state of what was named does not allow it.
    Conflict = "conflict", Conflict, Caller, No, "http_request_denied";
    /// The request breaks the grammar or the framing rules of its protocol.
    MalformedRequest = "malformed_request", Invalid, Caller, No, "http_request_error";
    /// The request needs another protocol, or another version of it.
    UpgradeRequired = "upgrade_required", Invalid, Caller, No, "http_request_denied";
    /// The path holds an encoded slash, backslash or NUL, or leaves the root.
    UnsafePath = "unsafe_path", Invalid, Caller, No, "http_request_error";
    /// The header section is larger than allowed.
    HeadersTooLarge = "headers_too_large", TooLarge, Caller, No, "http_request_error";
    /// The body is larger than allowed.
    BodyTooLarge = "body_too_large", TooLarge, Caller, No, "http_request_error";
    /// Timeout for the header section of the request.
    HeadersTimeout = "headers_timeout", Slow, Caller, Safe, "http_request_error";
    /// Timeout for the request body.
    BodyTimeout = "body_timeout", Slow, Caller, Idempotent, "http_request_error";
    /// The caller closed the connection or reset the stream.
    CallerGone = "caller_gone", Cancelled, Caller, No, "connection_terminated";
    /// The caller read its response too slowly, and the endpoint gave up.
    CallerSlow = "caller_slow", Cancelled, Caller, No, "http_response_incomplete";
    /// The protocol or method is not offered here.
    NotSupported = "not_supported", Unimplemented, Caller, No, "http_request_denied";
    /// The version of the protocol is not offered here.
    VersionNotSupported = "version_not_supported", Unimplemented, Caller, No, "http_request_error";
    /// The request has an `Expect` that is not supported.
    ExpectationFailed = "expectation_failed", Invalid, Caller, No, "http_request_denied";
    /// Load is shed: more requests are in flight than the service can handle now.
    Overload = "overload", Overloaded, Weft, Safe, "http_request_denied";
    /// The bulkhead of the policy is full, and so is its queue.
    BulkheadFull = "bulkhead_full", Overloaded, Weft, Safe, "http_request_denied";
    /// The circuit breaker of the service is open or isolated.
    BreakerOpen = "breaker_open", Unavailable, Upstream, Safe, "destination_unavailable";
    /// The service has no endpoint.
    NoEndpoint = "no_endpoint", Unavailable, Upstream, Safe, "destination_unavailable";
    /// The service has endpoints, but none is healthy.
    NoHealthyEndpoint = "no_healthy_endpoint", Unavailable, Upstream, Safe, "destination_unavailable";
    /// The name of the endpoint could not be resolved.
    DnsFailed = "dns_failed", BadGateway, Upstream, Safe, "dns_error";
    /// The endpoint refused the connection.
    ConnectRefused = "connect_refused", BadGateway, Upstream, Safe, "connection_refused";
    /// The connection to the endpoint failed for another reason.
    ConnectFailed = "connect_failed", BadGateway, Upstream, Safe, "destination_ip_unroutable";
    /// Timeout for connecting to the endpoint.
    ConnectTimeout = "connect_timeout", Deadline, Upstream, Safe, "connection_timeout";
    /// The TLS handshake with the endpoint failed.
    UpstreamTls = "upstream_tls", BadGateway, Upstream, Safe, "tls_protocol_error";
    /// The connection pool of the endpoint is exhausted.
    PoolExhausted = "pool_exhausted", Overloaded, Weft, Safe, "connection_limit_reached";
    /// The endpoint closed the connection before any response byte.
    UpstreamClosed = "upstream_closed", BadGateway, Upstream, Idempotent, "connection_terminated";
    /// The endpoint refused the stream before it did anything.
    UpstreamRefused = "upstream_refused", BadGateway, Upstream, Safe, "connection_terminated";
    /// The endpoint ended its response too early.
    UpstreamIncomplete = "upstream_incomplete", BadGateway, Upstream, No, "http_response_incomplete";
    /// The response of the endpoint breaks the protocol.
    UpstreamMalformed = "upstream_malformed", BadGateway, Upstream, Idempotent, "http_protocol_error";
    /// The header section of the response is larger than allowed.
    UpstreamHeadersTooLarge = "upstream_headers_too_large", BadGateway, Upstream, No, "http_response_header_section_size";
    /// Timeout of one try: the endpoint did not answer.
    TryTimeout = "try_timeout", Deadline, Upstream, Idempotent, "http_response_timeout";
    /// Timeout of the whole request.
    RequestTimeout = "request_timeout", Deadline, Upstream, No, "http_response_timeout";
    /// Idle timeout of the response: it stopped arriving.
    StreamIdle = "stream_idle", Deadline, Upstream, No, "http_response_timeout";
    /// A fault was injected by configuration.
    FaultInjected = "fault_injected", Unavailable, Weft, No, "http_request_denied";
    /// The queue has as many messages or bytes as it may hold.
    QueueFull = "queue_full", Overloaded, Weft, Safe, "http_request_denied";
    /// The message is larger than allowed.
    MessageTooLarge = "message_too_large", TooLarge, Caller, No, "http_request_error";
    /// The message breaks the format that it claims to have.
    MalformedMessage = "malformed_message", Invalid, Caller, No, "http_request_error";
    /// The message does not fit the schema of its topic.
    SchemaMismatch = "schema_mismatch", Invalid, Caller, No, "http_request_error";
    /// No topic has this name.
    NoTopic = "no_topic", NotFound, Caller, No, "destination_not_found";
    /// No queue has this name.
    NoQueue = "no_queue", NotFound, Caller, No, "destination_not_found";
    /// No subscription of the topic has this name.
    NoSubscription = "no_subscription", NotFound, Caller, No, "destination_not_found";
    /// No message has this position or id.
    NoMessage = "no_message", NotFound, Caller, No, "destination_not_found";
    /// No consumer listens where the request message was sent.
    NoListener = "no_listener", Unavailable, Caller, Safe, "destination_unavailable";
    /// Timeout for the reply to a message.
    ReplyTimeout = "reply_timeout", Deadline, Upstream, No, "http_response_timeout";
    /// The definition exists already, with other settings or declared by the configuration.
    DefinitionConflict = "definition_conflict", Conflict, Caller, No, "http_request_denied";
    /// The queue belongs to another connection or consumer.
    QueueLocked = "queue_locked", Conflict, Caller, No, "http_request_denied";
    /// The lease of the delivery is over, or was never this caller's.
    LeaseLost = "lease_lost", Conflict, Caller, No, "http_request_denied";
    /// The log ends at another position than the caller expected.
    PositionConflict = "position_conflict", Conflict, Caller, No, "http_request_denied";
    /// The entry has another version than the caller expected.
    VersionConflict = "version_conflict", Conflict, Caller, No, "http_request_denied";
    /// Events match the condition of an append that must not.
    ConditionConflict = "condition_conflict", Conflict, Caller, No, "http_request_denied";
    /// The projection has not got as far as the consistency token of the request says.
    ProjectionBehind = "projection_behind", Unavailable, Weft, Safe, "http_request_denied";
    /// The engine that keeps the queue or topic cannot be reached.
    EngineUnavailable = "engine_unavailable", Unavailable, Upstream, Idempotent, "destination_unavailable";
    /// An outbox that the node needs stands still until a person has looked at it.
    OutboxStopped = "outbox_stopped", Unavailable, Upstream, Safe, "destination_unavailable";
    /// The write queue of the ledger is full, or another process has the ledger open.
    StorageBusy = "storage_busy", Overloaded, Weft, Safe, "http_request_denied";
    /// The disk is full.
    StorageFull = "storage_full", Unavailable, Weft, Safe, "http_request_denied";
    /// The disk could not be read, or not reached.
    StorageUnavailable = "storage_unavailable", Unavailable, Weft, Safe, "http_request_denied";
    /// A write to the disk has failed; nothing is stored until the node restarts.
    StoragePoisoned = "storage_poisoned", Unavailable, Weft, No, "http_request_denied";
    /// The disk does not answer, or the thread that writes to it hangs.
    StorageStalled = "storage_stalled", Unavailable, Weft, Safe, "http_request_denied";
    /// Stored bytes do not match their checksum.
    StorageCorrupt = "storage_corrupt", Internal, Weft, No, "proxy_internal_error";
    /// Weft is draining.
    Draining = "draining", Unavailable, Weft, Safe, "http_request_denied";
    /// The configuration does not say where this goes.
    Misconfigured = "misconfigured", Internal, Weft, No, "proxy_configuration_error";
    /// A fault in Weft itself.
    Internal = "internal", Internal, Weft, No, "proxy_internal_error";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_distinct_and_lower_snake_case() {
        let mut words: Vec<_> = Reason::ALL.iter().map(|reason| reason.word()).collect();
        assert!(words.iter().all(|word| word.bytes().all(|b| b.is_ascii_lowercase() || b == b'_')));
        words.sort_unstable();
        words.dedup();
        assert_eq!(words.len(), Reason::ALL.len());
    }
}
