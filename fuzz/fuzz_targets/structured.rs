//! What parses is written, and reads the same again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use weft_wire::structured::{
    parse_dictionary, parse_item, parse_list, write_dictionary, write_item, write_list,
};

fuzz_target!(|bytes: &[u8]| {
    let mut out = Vec::new();
    if let Ok(item) = parse_item(bytes) {
        write_item(&item, &mut out).unwrap();
        assert_eq!(parse_item(&out), Ok(item));
    }
    out.clear();
    if let Ok(list) = parse_list(bytes) {
        write_list(&list, &mut out).unwrap();
        assert_eq!(parse_list(&out), Ok(list));
    }
    out.clear();
    if let Ok(dictionary) = parse_dictionary(bytes) {
        write_dictionary(&dictionary, &mut out).unwrap();
        assert_eq!(parse_dictionary(&out), Ok(dictionary));
    }
});
