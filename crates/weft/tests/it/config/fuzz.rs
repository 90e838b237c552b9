//! Whatever stands in a file, loading it ends, and ends without a panic.

use proptest::prelude::*;
use weft::config::report;

const FULL: &str = include_str!("good/full.yaml");

fn told(text: &str) {
    match super::load(text) {
        Ok(loaded) => {
            let shown = weft::config::print::yaml(&loaded, &super::variables);
            assert!(shown.contains("admin:"));
        }
        Err(refused) => {
            assert!(refused.errors() > 0);
            assert!(!report::text(&refused.problems, &refused.sources, true).is_empty());
            assert!(report::json(&refused.problems, &refused.sources).is_array());
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    #[test]
    fn random_text(text in "\\PC{0,400}") {
        told(&text);
    }

    #[test]
    fn random_yaml(text in "([ ]{0,4}[a-z*&~!%@`?|>-]{0,6}[:,\\[\\]{}#\"' \n-]{0,3}){0,60}") {
        told(&text);
    }

    #[test]
    fn a_good_file_cut_short(at in 0..FULL.len()) {
        let mut at = at;
        while !FULL.is_char_boundary(at) { at -= 1; }
        told(&FULL[..at]);
    }

    #[test]
    fn a_good_file_with_a_change(at in 0..FULL.len(), gone in 0usize..12, new in "[\\PC\n\t]{0,6}") {
        let (mut from, mut to) = (at, (at + gone).min(FULL.len()));
        while !FULL.is_char_boundary(from) { from -= 1; }
        while !FULL.is_char_boundary(to) { to += 1; }
        told(&format!("{}{new}{}", &FULL[..from], &FULL[to..]));
    }

    #[test]
    fn a_good_file_with_lines_exchanged(one in 0usize..80, other in 0usize..80) {
        let mut lines: Vec<&str> = FULL.lines().collect();
        let count = lines.len();
        lines.swap(one % count, other % count);
        told(&lines.join("\n"));
    }
}
