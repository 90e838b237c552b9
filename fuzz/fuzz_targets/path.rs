//! A normal path stays normal, has no dot segment, and keeps its query.
#![no_main]

use libfuzzer_sys::fuzz_target;
use weft_wire::path::{EncodedSlash, Rules, normalise};

fuzz_target!(|target: &str| {
    for encoded_slash in [EncodedSlash::Reject, EncodedSlash::Keep] {
        for merge_slashes in [true, false] {
            let rules = Rules { encoded_slash, merge_slashes };
            let Ok(normal) = normalise(target, rules) else { continue };
            assert_eq!(normalise(&normal, rules).as_deref(), Ok(&*normal));
            let (path, query) = normal.split_once('?').unwrap_or((&normal, ""));
            assert_eq!(query, target.split_once('?').map_or("", |(_, query)| query));
            assert!(path.is_ascii() && !path.contains(['\\', '#']));
            assert!(path.split('/').all(|segment| segment != "." && segment != ".."));
            assert!(!merge_slashes || !path.contains("//"));
            let lower = path.to_ascii_lowercase();
            assert!(!lower.contains("%00") && !lower.contains("%2e"));
            if encoded_slash == EncodedSlash::Reject {
                assert!(!lower.contains("%2f") && !lower.contains("%5c"));
            }
        }
    }
});
