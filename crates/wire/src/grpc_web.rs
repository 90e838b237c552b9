//! gRPC-Web to gRPC and back (grpc/grpc `doc/PROTOCOL-WEB.md`), chunk by chunk.
//!
//! The messages of both are the same bytes. What differs: a text body is base64, and since browsers
//! see no trailers, they come as a last frame of the body with [`TRAILERS`] set.
//!
//! On the way in, a text body passes [`TextDecoder`]. On the way out, the body ends with
//! [`write_trailers`], and if it is text every chunk passes [`TextEncoder`]. [`Splitter`] is the other
//! end: it takes a gRPC-Web response apart into messages and trailers.

mod split;
mod text;

pub use split::{SplitError, Splitter, TRAILER_BYTES_MAX};
pub use text::{NotBase64, TextDecoder, TextEncoder};

use crate::{
    fields::{is_token, is_value},
    grpc::{PREFIX_BYTES, Prefix, TRAILERS},
};

/// Appends the frame that carries the trailers. A name that is no token or a value that would break
/// out of its line is left out; names are put in lower case, as the protocol asks.
pub fn write_trailers<'a>(
    trailers: impl IntoIterator<Item = (&'a str, &'a [u8])>,
    out: &mut Vec<u8>,
) {
    let start = out.len();
    out.extend_from_slice(&[0; PREFIX_BYTES]);
    for (name, value) in trailers {
        if name.is_empty() || !name.bytes().all(is_token) || !is_value(value) {
            continue;
        }
        out.extend(name.bytes().map(|byte| byte.to_ascii_lowercase()));
        out.push(b':');
        out.extend_from_slice(value);
        out.extend_from_slice(b"\r\n");
    }
    // Header limits keep trailers far below 4 GiB.
    let len = u32::try_from(out.len() - start - PREFIX_BYTES).unwrap_or(u32::MAX);
    out[start..start + PREFIX_BYTES].copy_from_slice(&Prefix { flags: TRAILERS, len }.bytes());
}

#[cfg(test)]
mod tests;
