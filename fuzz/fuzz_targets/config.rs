//! Loading a configuration ends, without a panic, in a plan or in at least one error that can be shown.
#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use weft::config::{Loader, print, report};

fuzz_target!(|bytes: &[u8]| {
    let text = String::from_utf8_lossy(bytes);
    // No file is read but what the text names, and nothing leads out of a folder that is not there.
    let path = Path::new("/nonexistent/weft.yaml");
    let variables = |name: &str| (name == "PORT").then(|| "8080".to_owned());
    match Loader::default().load_text(path, &text, &variables) {
        Ok(loaded) => {
            assert!(!print::yaml(&loaded.tree(&variables), &loaded.sources).is_empty());
        }
        Err(refused) => {
            assert!(refused.errors() > 0);
            assert!(!report::text(&refused.problems, &refused.sources, true).is_empty());
            assert!(report::json(&refused.problems, &refused.sources).is_array());
        }
    }
});
