//! Consistency tokens: how far a read must have got to show what its caller has written.
//!
//! A token is the position behind the last event of an append. To clients it is opaque, so that it can say more one day.

use weft_kernel::{Error, Reason, Result};

/// The header field of a token.
pub(crate) const TOKEN: &str = "weft-consistency-token";
/// What tells that what is shown is older than the token.
pub(crate) const STALE: &str = "weft-stale";

/// The token of who has appended before a position.
pub(crate) fn token(position: u64) -> String {
    format!("e1.{position:x}")
}

/// The position that a token is of.
pub(crate) fn position(token: &str) -> Result<u64> {
    let read = token.strip_prefix("e1.").and_then(|text| u64::from_str_radix(text, 16).ok());
    read.ok_or_else(|| {
        let say = "`Weft-Consistency-Token` is none: send back what an append has answered";
        Error::new(Reason::MalformedRequest, say)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_read_back_and_anything_else_is_refused() {
        for at in [0, 1, 255, u64::MAX] {
            assert_eq!(position(&token(at)).unwrap(), at);
        }
        for wrong in ["", "7", "e1.", "e1.-1", "e2.7"] {
            assert!(position(wrong).is_err(), "{wrong}");
        }
    }
}
