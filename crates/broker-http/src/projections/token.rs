//! Consistency tokens: how far a read must have got to show what its caller has written.
//!
//! A token is the epoch of a store of events and a position in it: all before that is what its caller may count on. To
//! clients it is opaque, so that it can say more one day.

use weft_events::EventStore;
use weft_kernel::{Error, Reason, Result};
use weft_wire::Fields;

/// The header field of a token.
pub(crate) const TOKEN: &str = "weft-consistency-token";
/// What tells that what is shown is older than the token.
pub(crate) const STALE: &str = "weft-stale";

/// The token of who has appended before a position.
pub(crate) fn token(epoch: u64, position: u64) -> String {
    format!("e1.{epoch:x}.{position:x}")
}

/// The epoch and the position of a token.
fn parse(token: &[u8]) -> Option<(u64, u64)> {
    let (epoch, position) =
        std::str::from_utf8(token).ok()?.trim().strip_prefix("e1.")?.split_once('.')?;
    let hexadecimal = |text: &str| {
        let digits = text.bytes().all(|byte| byte.is_ascii_hexdigit());
        if digits { u64::from_str_radix(text, 16).ok() } else { None }
    };
    Some((hexadecimal(epoch)?, hexadecimal(position)?))
}

/// The position that a token is of; `None` if it is none of this store, or of what is not there.
pub(super) fn position(events: &EventStore, token: &[u8]) -> Option<u64> {
    let (epoch, position) = parse(token)?;
    (epoch == events.epoch() && position <= events.next_position()).then_some(position)
}

/// The farthest position of the tokens of a request; `None` without any.
///
/// # Errors
/// `malformed_request` for what is no token, `position_conflict` for one of another store or of events that are not
/// there.
pub(crate) fn farthest(events: &EventStore, fields: &Fields) -> Result<Option<u64>> {
    let mut farthest = None;
    for line in fields.all_named(TOKEN) {
        for token in line.split(|byte| *byte == b',').filter(|token| !token.trim_ascii().is_empty())
        {
            if parse(token).is_none() {
                let say = "`Weft-Consistency-Token` is none: send back what an append has answered";
                return Err(Error::new(Reason::MalformedRequest, say));
            }
            let Some(position) = position(events, token) else {
                let say = "the events that the consistency token is of are not in this store: they were restored, or \
                           made anew, or are those of another node";
                return Err(Error::new(Reason::PositionConflict, say));
            };
            farthest = farthest.max(Some(position));
        }
    }
    Ok(farthest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_read_back_and_anything_else_is_none() {
        for (epoch, at) in [(0, 0), (1, 1), (0xfe, 255), (u64::MAX, u64::MAX)] {
            assert_eq!(parse(token(epoch, at).as_bytes()), Some((epoch, at)));
        }
        for wrong in ["", "7", "e1.", "e1.7", "e1.7.", "e1.7.-1", "e1.+7.1", "e2.7.7", "e1.1.2.3"] {
            assert_eq!(parse(wrong.as_bytes()), None, "{wrong}");
        }
    }
}
