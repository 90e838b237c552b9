//! Taking messages from a queue or subscription, printing them, and settling them.

use std::process::ExitCode;

use http::Method;
use serde_json::{Value, json};

use super::{
    admin::{Admin, Said},
    print,
};

/// Takes up to `max` messages at a path of the API, prints them, and settles them.
pub(super) fn receive(
    admin: &Admin,
    path: &str,
    max: u32,
    wait: &str,
    how: &str,
) -> anyhow::Result<ExitCode> {
    let asked = json!({ "max": max, "wait": wait });
    let answer = match admin.send(&Method::POST, &format!("{path}/receive"), Some(&asked))? {
        Said::Yes(answer) => answer,
        Said::No(why) => return admin.refused(&why),
    };
    let deliveries = answer["deliveries"].as_array().map_or(&[][..], Vec::as_slice);
    if deliveries.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    // Printed first: what could not be shown is not settled, and comes again.
    for delivery in deliveries {
        print(&format!("{delivery}\n"))?;
    }
    let settle: Vec<Value> =
        deliveries.iter().map(|delivery| json!({ "id": delivery["id"], "how": how })).collect();
    let settle = json!({ "settle": settle });
    match admin.send(&Method::POST, &format!("{path}/settle"), Some(&settle))? {
        Said::No(why) => admin.refused(&why),
        Said::Yes(answer) => {
            let all = answer["settled"].as_array().map_or(&[][..], Vec::as_slice);
            match all.iter().find(|one| one["ok"] != json!(true)) {
                None => Ok(ExitCode::SUCCESS),
                Some(one) => admin.refused(one["detail"].as_str().unwrap_or("not settled")),
            }
        }
    }
}
