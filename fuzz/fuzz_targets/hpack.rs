//! Header blocks, one after the other: nothing panics, and what is written plainly is read back the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use weft_wire::hpack::{Decoder, encode_plain};

fuzz_target!(|bytes: &[u8]| {
    let mut decoder = Decoder::default();
    // Each block is as long as the byte before it says.
    let mut rest = bytes;
    while let Some((length, after)) = rest.split_first() {
        let (block, next) = after.split_at(after.len().min(usize::from(*length)));
        rest = next;
        let mut fields = Vec::new();
        let told = decoder.decode(block, |name, value, ()| fields.push((name.to_vec(), value.to_vec())));
        if told.is_err() {
            return;
        }
        let mut plain = Vec::new();
        fields.iter().for_each(|(name, value)| encode_plain(name, value, &mut plain));
        let mut again = Vec::new();
        Decoder::default()
            .decode(&plain, |name, value, ()| again.push((name.to_vec(), value.to_vec())))
            .expect("what was written is read");
        assert_eq!(fields, again);
    }
});
