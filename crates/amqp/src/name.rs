//! Names: those that the server makes, and those that are its own.

use std::borrow::Cow;

use aws_lc_rs::rand;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use weft_kernel::{Error, Reason, Result};

/// What names of the server's own begin with.
pub(crate) const RESERVED: &str = "amq.";

/// A name as it counts where queues and exchanges are declared, bound and deleted: without line feeds and
/// carriage returns.
pub(crate) fn in_one_line(name: &str) -> Cow<'_, str> {
    if name.contains(['\n', '\r']) { name.replace(['\n', '\r'], "").into() } else { name.into() }
}

/// A name that nobody else has.
pub(crate) fn generated(prefix: &str) -> Result<String> {
    let mut bytes = [0; 16];
    rand::fill(&mut bytes)
        .map_err(|_error| Error::new(Reason::Internal, "the system gives no random numbers"))?;
    let mut name = prefix.to_owned();
    URL_SAFE_NO_PAD.encode_string(bytes, &mut name);
    Ok(name)
}
