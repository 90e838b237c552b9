//! What was encrypted is read by its key alone, and no other bytes pass for it.

use super::{BLOCK_EXTRA, Keys, TAG};

fn sealed(keys: &Keys) -> (Vec<u8>, Vec<u8>) {
    let (sealer, header) = keys.fresh(b"file 1").unwrap();
    let mut bytes = b"secret".to_vec();
    bytes.extend_from_slice(&[0; TAG]);
    sealer.unwrap().seal(7, &mut bytes).unwrap();
    (header, bytes)
}

#[test]
fn a_file_is_opened_by_the_key_that_it_names_and_for_its_own_place() {
    let old = Keys::none().with("old", [1; 32]).unwrap();
    let both = old.clone().with("new", [2; 32]).unwrap();
    let (header, bytes) = sealed(&old);
    for keys in [&old, &both] {
        let sealer = keys.open(&header, b"file 1").unwrap().unwrap();
        assert_eq!(sealer.open(7, &mut bytes.clone()).unwrap(), b"secret");
        assert!(sealer.open(8, &mut bytes.clone()).is_none());
        for bit in 0..bytes.len() * 8 {
            let mut broken = bytes.clone();
            broken[bit / 8] ^= 1 << (bit % 8);
            assert!(sealer.open(7, &mut broken).is_none());
        }
    }
    assert!(both.open(&header, b"file 2").is_err(), "a header of another file");
    let other = Keys::none().with("old", [3; 32]).unwrap();
    assert!(other.open(&header, b"file 1").unwrap_err().said().contains("not the one"));
    let without = Keys::none().open(&header, b"file 1").unwrap_err();
    assert!(without.said().contains("`old`"), "{without}");
    let rewrapped = both.rewrap(&header, b"file 1").unwrap().unwrap();
    assert!(both.rewrap(&rewrapped, b"file 1").unwrap().is_none());
    let new = Keys::none().with("new", [2; 32]).unwrap();
    let sealer = new.open(&rewrapped, b"file 1").unwrap().unwrap();
    assert_eq!(sealer.open(7, &mut bytes.clone()).unwrap(), b"secret");
}

#[test]
fn without_keys_files_are_in_the_clear_and_headers_that_are_cut_are_refused() {
    let (sealer, header) = Keys::none().fresh(b"").unwrap();
    assert!(sealer.is_none() && Keys::none().open(&header, b"").unwrap().is_none());
    let keys = Keys::none().with("id", [1; 32]).unwrap();
    let (header, _) = sealed(&keys);
    for len in 0..header.len() {
        assert!(keys.open(&header[..len], b"file 1").is_err(), "{len}");
    }
    assert!(Keys::none().with("", [0; 32]).is_err());
    assert!(!format!("{keys:?}").contains('1'), "keys are not shown");
}

#[test]
fn a_block_has_a_new_nonce_each_time_and_fits_its_number_only() {
    let keys = Keys::none().with("id", [1; 32]).unwrap();
    let sealer = keys.fresh(b"").unwrap().0.unwrap();
    let (mut first, mut second) = ([0; 5 + BLOCK_EXTRA], [0; 5 + BLOCK_EXTRA]);
    sealer.seal_block(1, b"block", &mut first).unwrap();
    sealer.seal_block(1, b"block", &mut second).unwrap();
    assert_ne!(first, second);
    assert!(sealer.open_block(2, &mut first.clone()).is_none());
    assert_eq!(sealer.open_block(1, &mut first).unwrap(), b"block");
    assert!(sealer.open_block(1, &mut first[..4]).is_none());
}
