//! A message of `pgoutput` is read whole or not at all, and what is cut is none.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use weft_outbox::pgoutput::{Malformed, Output, read};

fuzz_target!(|bytes: &[u8]| {
    let bytes = Bytes::copy_from_slice(bytes);
    match read(&bytes) {
        Ok(Output::Other) | Err(Malformed) => {}
        Ok(_) => {
            let cut = bytes.slice(..bytes.len() - 1);
            assert!(matches!(read(&cut), Ok(Output::Other) | Err(Malformed)));
        }
    }
});
