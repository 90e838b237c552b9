//! Trace context: who asked, which trace it belongs to, and whether it is recorded.
//!
//! W3C Trace Context is read and written; B3 (one header or several) is read, so that callers who speak
//! it join the same trace. What cannot be parsed is treated as absent, as both specifications ask: a
//! broken header starts a new trace and never fails a request. Ids come from [`Rng`], which is quick and
//! not for secrets.

mod b3;
mod hex;
pub mod request_id;
mod w3c;

use weft_kernel::Rng;

/// The longest `tracestate` that is taken along; the specification asks for at least 512.
pub const TRACESTATE_BYTES_MAX: usize = 512;

/// A place in a trace: either what a caller sent, or a span of our own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Context {
    /// The trace; 0 if there is none yet.
    pub trace_id: u128,
    /// The span: the caller's as extracted (our parent), our own once started; 0 if there is none.
    pub span_id: u64,
    /// Whether it is recorded; `None` if nobody has decided.
    pub sampled: Option<bool>,
    /// Whether the low 7 bytes of the trace id are random, as its maker says (Trace Context level 2,
    /// section 3.2.2.5.2).
    pub random: bool,
    /// The `tracestate` that belongs to it, unchanged.
    pub tracestate: Option<Box<str>>,
}

impl Context {
    /// Reads the context that a request carries; `get` gives the value of a header by its lower-case name.
    ///
    /// `traceparent` wins over `b3`, which wins over the `x-b3-` headers. A B3 caller may send a decision
    /// alone, without ids: then [`Self::sampled`] is set and [`Self::trace_id`] is 0. A field that comes
    /// more than once is as good as none, so `get` gives `None` for it; only `tracestate` may be spread
    /// over several, which are one list in the order of `states`.
    pub fn extract<'a>(
        get: impl Fn(&str) -> Option<&'a [u8]>,
        states: impl Iterator<Item = &'a [u8]>,
    ) -> Self {
        if let Some(mut context) = get("traceparent").and_then(w3c::parse) {
            context.tracestate = w3c::join(states);
            return context;
        }
        get("b3").and_then(b3::single).or_else(|| b3::multi(get)).unwrap_or_default()
    }

    /// Whether there is a trace to belong to.
    pub const fn is_valid(&self) -> bool {
        self.trace_id != 0 && self.span_id != 0
    }

    /// The `traceparent` value of this context, version 00.
    pub fn traceparent(&self) -> [u8; 55] {
        w3c::write(self)
    }
}

/// Decides what is recorded: as the caller did, else a share of the traces.
///
/// The share is cut by the trace id itself (the low 56 bits against a threshold, as OpenTelemetry's
/// consistent sampling does), so every Weft of a fleet decides alike.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sampler {
    /// Trace ids whose low 56 bits are at least this are recorded.
    threshold: u64,
}

const RANDOM_BITS: u32 = 56;

impl Default for Sampler {
    fn default() -> Self {
        Self::ratio(0.01)
    }
}

impl Sampler {
    /// Records this share of the traces (0 to 1) for which the caller has not decided.
    pub fn ratio(share: f64) -> Self {
        let share = if share.is_nan() { 0.0 } else { share.clamp(0.0, 1.0) };
        let all = 1u64 << RANDOM_BITS;
        Self { threshold: all - (share * all as f64) as u64 }
    }

    /// Starts our own span beneath what the caller sent, or a new trace.
    pub fn start(&self, incoming: &Context, rng: &mut Rng) -> Context {
        let fresh = !incoming.is_valid();
        let trace_id = if fresh { trace_id(rng) } else { incoming.trace_id };
        let low = trace_id as u64 & ((1 << RANDOM_BITS) - 1);
        Context {
            trace_id,
            span_id: span_id(rng),
            sampled: Some(incoming.sampled.unwrap_or(low >= self.threshold)),
            // What is drawn here is random in all of its bits.
            random: fresh || incoming.random,
            tracestate: if fresh { None } else { incoming.tracestate.clone() },
        }
    }
}

impl Context {
    /// A span of its own for one try at an endpoint, beneath this one and decided alike.
    ///
    /// `tracestate` is not taken along, as the request's own header field goes on unchanged.
    #[must_use]
    pub fn child(&self, rng: &mut Rng) -> Self {
        Self { span_id: span_id(rng), tracestate: None, ..*self }
    }

    /// Whether the span is to be exported: if it is sampled, and also if its request failed.
    ///
    /// An upgraded span is exported with its true ids, though the spans of other services in that trace
    /// are not: an error is seen where it happened even at a sampling share of zero.
    pub fn exports(&self, failed: bool) -> bool {
        failed || self.sampled == Some(true)
    }
}

/// A new trace id, never 0.
pub fn trace_id(rng: &mut Rng) -> u128 {
    let high = u128::from(rng.next_u64());
    ((high << 64) | u128::from(rng.next_u64())).max(1)
}

/// A new span id, never 0.
pub fn span_id(rng: &mut Rng) -> u64 {
    rng.next_u64().max(1)
}

/// The 32 hexadecimal digits of a trace id.
pub fn trace_id_hex(id: u128) -> [u8; 32] {
    hex::write(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: u128 = 0x0af7_6519_16cd_43dd_8448_eb21_1c80_319c;
    const SPAN: u64 = 0xb7ad_6b71_6920_3331;

    fn extract(headers: &[(&str, &str)]) -> Context {
        Context::extract(
            |name| {
                let mut of = headers.iter().filter(|(key, _)| *key == name);
                of.next().filter(|_| of.next().is_none()).map(|(_, value)| value.as_bytes())
            },
            headers
                .iter()
                .filter(|(key, _)| *key == "tracestate")
                .map(|(_, value)| value.as_bytes()),
        )
    }

    #[test]
    fn the_first_valid_format_wins() {
        let w3c = ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01");
        let b3 = ("b3", "463ac35c9f6413ad48485a3953bb6124-a2fb4a1d1a96d312-0");
        let multi = [("x-b3-traceid", "463ac35c9f6413ad"), ("x-b3-spanid", "a2fb4a1d1a96d312")];
        let both = extract(&[w3c, b3]);
        assert_eq!((both.trace_id, both.span_id, both.sampled), (ID, SPAN, Some(true)));
        let broken = extract(&[("traceparent", "00-x"), b3]);
        assert_eq!(broken.trace_id, 0x463a_c35c_9f64_13ad_4848_5a39_53bb_6124);
        assert_eq!(broken.sampled, Some(false));
        assert_eq!(extract(&multi).trace_id, 0x463a_c35c_9f64_13ad);
        assert_eq!(extract(&[]), Context::default());
    }

    #[test]
    fn tracestate_goes_with_a_valid_traceparent_alone() {
        let good = ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01");
        let state = ("tracestate", "congo=t61rcWkgMzE,rojo=00f067aa0ba902b7");
        assert_eq!(extract(&[good, state]).tracestate.as_deref(), Some(state.1));
        assert_eq!(extract(&[state]).tracestate, None);
        assert_eq!(extract(&[("traceparent", "nonsense"), state]).tracestate, None);
    }

    #[test]
    fn two_traceparents_are_none_and_tracestates_are_one_list() {
        let good = ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01");
        let other = ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203332-01");
        let (one, two) = (("tracestate", "foo=1"), ("tracestate", "bar=2, baz=3"));
        assert_eq!(extract(&[good, other, one]), Context::default());
        assert_eq!(extract(&[good, good, one]), Context::default());
        let joined = extract(&[good, one, two]).tracestate;
        assert_eq!(joined.as_deref(), Some("foo=1,bar=2, baz=3"));
        assert_eq!(extract(&[good, one, ("tracestate", "bar")]).tracestate, None);
        assert_eq!(extract(&[good, ("tracestate", ""), one]).tracestate.as_deref(), Some(",foo=1"));
    }

    #[test]
    fn a_caller_decides_and_otherwise_the_share_does() {
        let mut rng = Rng::seeded(3);
        let (none, all) = (Sampler::ratio(0.0), Sampler::ratio(1.0));
        let incoming =
            |sampled| Context { trace_id: ID, span_id: SPAN, sampled, ..Context::default() };
        for decided in [true, false] {
            for sampler in [none, all] {
                let span = sampler.start(&incoming(Some(decided)), &mut rng);
                assert_eq!(span.sampled, Some(decided));
                assert_eq!(span.trace_id, ID);
                assert!(span.span_id != SPAN && span.span_id != 0);
            }
        }
        assert_eq!(none.start(&incoming(None), &mut rng).sampled, Some(false));
        assert_eq!(all.start(&incoming(None), &mut rng).sampled, Some(true));
        // A decision without ids is kept, in a trace of our own.
        let span = none.start(&Context { sampled: Some(true), ..Context::default() }, &mut rng);
        assert_eq!(span.sampled, Some(true));
        assert!(span.is_valid());
    }

    #[test]
    fn one_percent_is_one_percent_and_the_id_decides() {
        let sampler = Sampler::default();
        let mut rng = Rng::seeded(11);
        let mut sampled = 0;
        for _ in 0..100_000 {
            let span = sampler.start(&Context::default(), &mut rng);
            let again = Context { sampled: None, ..span.clone() };
            assert_eq!(sampler.start(&again, &mut rng).sampled, span.sampled);
            sampled += u32::from(span.sampled == Some(true));
        }
        assert!((900..1_100).contains(&sampled), "{sampled}");
    }

    #[test]
    fn failed_requests_are_exported_whatever_was_sampled() {
        let span = Context { sampled: Some(false), ..Context::default() };
        assert!(!span.exports(false));
        assert!(span.exports(true));
        assert!(Context { sampled: Some(true), ..Context::default() }.exports(false));
    }

    #[test]
    fn a_child_stays_in_the_trace() {
        let mut rng = Rng::seeded(1);
        let span = Sampler::ratio(1.0).start(&Context::default(), &mut rng);
        let child = span.child(&mut rng);
        assert_eq!((child.trace_id, child.sampled), (span.trace_id, span.sampled));
        assert_ne!(child.span_id, span.span_id);
    }
}
