//! The names of fields that the request path looks for, and sets of them.
//!
//! A name is found by a hash of its length and ends; a set has a bit for each name, in as many words as
//! the table needs. Adding a name is a line here.

/// The number of no known name.
pub(super) const UNKNOWN: u8 = u8::MAX;

macro_rules! known {
    ($($name:ident = $text:literal,)+) => {
        /// Names that the request path looks for, so that it need not compare text.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u8)]
        pub enum Known { $(#[doc = $text] $name,)+ }

        impl Known {
            /// Every known name.
            pub const ALL: &[Self] = &[$(Self::$name,)+];

            /// The text of the name, in lower case.
            pub const fn text(self) -> &'static str {
                match self { $(Self::$name => $text,)+ }
            }
        }
    };
}

known! {
    Host = "host", Connection = "connection", KeepAlive = "keep-alive",
    ProxyConnection = "proxy-connection", TransferEncoding = "transfer-encoding", Te = "te",
    Trailer = "trailer", Upgrade = "upgrade", ContentLength = "content-length",
    ContentType = "content-type", Expect = "expect", Forwarded = "forwarded",
    XForwardedFor = "x-forwarded-for", XForwardedProto = "x-forwarded-proto",
    XForwardedHost = "x-forwarded-host", Via = "via", XRequestId = "x-request-id",
    Traceparent = "traceparent", Tracestate = "tracestate", B3 = "b3", XB3TraceId = "x-b3-traceid",
    XB3SpanId = "x-b3-spanid", XB3Sampled = "x-b3-sampled", XB3Flags = "x-b3-flags",
    XB3ParentSpanId = "x-b3-parentspanid", GrpcTimeout = "grpc-timeout", GrpcStatus = "grpc-status",
    GrpcMessage = "grpc-message", GrpcRetryPushback = "grpc-retry-pushback-ms", Cookie = "cookie",
    SetCookie = "set-cookie", Authorization = "authorization", UserAgent = "user-agent",
    RetryAfter = "retry-after", Date = "date", Server = "server", Location = "location",
    Accept = "accept", ProxyAuthenticate = "proxy-authenticate",
    ProxyAuthorization = "proxy-authorization", ProxyStatus = "proxy-status",
    XRequestTimeout = "x-request-timeout-ms", XAttempt = "x-request-attempt",
    SecWebSocketKey = "sec-websocket-key", Http2Settings = "http2-settings",
    ContentEncoding = "content-encoding", CacheControl = "cache-control",
    IdempotencyKey = "idempotency-key", Origin = "origin",
    SecWebSocketVersion = "sec-websocket-version", SecWebSocketAccept = "sec-websocket-accept",
    XForwardedClientCert = "x-forwarded-client-cert", XConsumerUsername = "x-consumer-username",
    XConsumerGroups = "x-consumer-groups", XAnonymousConsumer = "x-anonymous-consumer",
    RateLimitPolicy = "ratelimit-policy", RateLimit = "ratelimit",
}

// A known name is a byte, of which the last says that a name is none of them.
const _: () = assert!(Known::ALL.len() <= UNKNOWN as usize);

/// Where to look for a known name: every name of every message is asked for, most of them in vain.
const SLOTS: [u8; 256] = {
    let mut slots = [UNKNOWN; 256];
    let mut index = 0;
    while index < Known::ALL.len() {
        let mut slot = slot(Known::ALL[index].text().as_bytes());
        while slots[slot as usize] != UNKNOWN {
            slot = slot.wrapping_add(1);
        }
        slots[slot as usize] = index as u8;
        index += 1;
    }
    slots
};

/// The slot where the search for a name begins, by its length and both its ends.
const fn slot(name: &[u8]) -> u8 {
    let [first, .., last] = name else { return 0 };
    (name.len() as u8)
        .wrapping_mul(29)
        .wrapping_add(first.wrapping_mul(7))
        .wrapping_add(last.wrapping_mul(53))
}

impl Known {
    /// The known name of a text in lower case.
    pub fn of(name: &[u8]) -> Option<Self> {
        let mut slot = slot(name);
        loop {
            let known = *Self::ALL.get(usize::from(SLOTS[usize::from(slot)]))?;
            if known.text().as_bytes() == name {
                return Some(known);
            }
            slot = slot.wrapping_add(1);
        }
    }
}

/// The words of a set of known names.
const WORDS: usize = Known::ALL.len().div_ceil(64);

/// A set of known names, by their numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Names<const N: usize = WORDS>([u64; N]);

impl<const N: usize> Default for Names<N> {
    fn default() -> Self {
        Self::none()
    }
}

/// A set of known names that is worked out once, for many messages.
#[derive(Clone, Copy, Debug)]
pub struct KnownNames(pub(super) Names);

impl KnownNames {
    /// Of those that are said to be in it.
    pub fn of(is_in: impl Fn(Known) -> bool) -> Self {
        let mut names = Names::none();
        Known::ALL.iter().filter(|known| is_in(**known)).for_each(|known| names.add(*known as u8));
        Self(names)
    }
}

impl Names {
    /// Of these names.
    pub(super) const fn of(names: &[Known]) -> Self {
        let mut all = Self::none();
        let mut index = 0;
        while index < names.len() {
            all.add(names[index] as u8);
            index += 1;
        }
        all
    }
}

impl<const N: usize> Names<N> {
    /// Of no name.
    pub(super) const fn none() -> Self {
        Self([0; N])
    }

    /// The word of a name; with a table of one word that is known beforehand, and no bound is checked.
    const fn word(known: u8) -> usize {
        known as usize / 64 % N
    }

    pub(super) const fn has(&self, known: u8) -> bool {
        self.0[Self::word(known)] & (1 << (known % 64)) != 0
    }

    pub(super) const fn add(&mut self, known: u8) {
        self.0[Self::word(known)] |= 1 << (known % 64);
    }

    pub(super) const fn remove(&mut self, known: u8) {
        self.0[Self::word(known)] &= !(1 << (known % 64));
    }

    /// Those that are not in it.
    pub(super) fn others(self) -> Self {
        Self(self.0.map(|word| !word))
    }

    /// Whether any of the others is here.
    pub(super) fn meets(&self, others: Self) -> bool {
        self.0.iter().zip(others.0).any(|(here, other)| here & other != 0)
    }

    pub(super) fn remove_all(&mut self, others: Self) {
        self.0.iter_mut().zip(others.0).for_each(|(here, other)| *here &= !other);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_known_by_all_of_its_text() {
        for &known in Known::ALL {
            let name = known.text().as_bytes();
            assert_eq!(Known::of(name), Some(known));
            for at in 0..name.len() {
                let mut other = name.to_vec();
                other[at] = b'~';
                assert_eq!(Known::of(&other), None, "{known:?} with another byte at {at}");
            }
            assert_eq!(Known::of(&name[1..]), None);
        }
        assert_eq!((Known::of(b""), Known::of(b"~"), Known::of(&[b'x'; 300])), (None, None, None));
    }

    #[test]
    fn known_names_are_found_by_their_text() {
        for known in Known::ALL {
            assert_eq!(Known::of(known.text().as_bytes()), Some(*known));
        }
    }

    #[test]
    fn a_set_has_room_for_more_names_than_a_word_has_bits() {
        let mut all = Names::<4>::none();
        for known in (0..UNKNOWN).step_by(3) {
            all.add(known);
        }
        for known in 0..UNKNOWN {
            assert_eq!(all.has(known), known % 3 == 0, "{known}");
        }
        let mut some = Names::<4>::none();
        some.add(1);
        assert!(!all.meets(some));
        some.add(192);
        assert!(all.meets(some));
        all.remove_all(some);
        assert!(!all.has(192) && all.has(189) && all.has(195));
        all.remove(63);
        assert!(!all.has(63) && all.has(66));
    }
}
