//! Named bounds that more than one room keeps; what one room alone keeps stands in that room.

/// The longest name of a service, route, listener or policy.
pub const NAME_BYTES_MAX: usize = 128;
/// The largest header section taken from a client or a service unless configured otherwise.
pub const HEADER_BYTES_MAX: usize = 60 * 1024;
/// The most header fields in a message unless configured otherwise.
pub const HEADER_COUNT_MAX: usize = 100;
/// The largest request body unless configured otherwise.
pub const BODY_BYTES_MAX: u64 = 10 * 1024 * 1024;
/// The most concurrent streams of one HTTP/2 connection unless configured otherwise.
pub const STREAMS_MAX: u32 = 100;
