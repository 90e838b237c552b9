//! Taking messages from a queue or subscription, printing them, and settling them.

use std::process::ExitCode;

use clap::Args;
use http::Method;
use serde_json::{Value, json};

use super::{
    Reader,
    admin::{Admin, Said},
    print_to_reader,
};

/// What is taken, and what becomes of it.
#[derive(Debug, Args)]
#[group(skip)]
pub(super) struct Receive {
    /// Number of messages, at most.
    #[arg(long, default_value_t = 1)]
    max: u32,
    /// Time to wait for the first, such as 5s.
    #[arg(long, default_value = "5s")]
    wait: String,
    /// Settlement of what is taken: accept, release, fail or reject.
    #[arg(long, default_value = "accept")]
    how: String,
}

impl Receive {
    /// Takes messages at a path of the API, prints them, and settles them.
    pub(super) fn run(self, admin: &Admin, path: &str) -> anyhow::Result<ExitCode> {
        let how = self.how;
        let asked = json!({ "max": self.max, "wait": self.wait });
        let answer = match admin.send(&Method::POST, &format!("{path}/receive"), Some(&asked))? {
            Said::Yes(answer) => answer,
            Said::No(why) => return admin.refused(&why),
        };
        let deliveries = answer["deliveries"].as_array().map_or(&[][..], Vec::as_slice);
        if deliveries.is_empty() {
            return Ok(ExitCode::SUCCESS);
        }
        // Printed first: what could not be shown is not settled, and comes again.
        let mut printed = 0;
        for delivery in deliveries {
            if print_to_reader(&format!("{delivery}\n"))? == Reader::Gone {
                break;
            }
            printed += 1;
        }
        let hows = (0..).map(|nth| if nth < printed { how.as_str() } else { "release" });
        let settle: Vec<Value> = deliveries
            .iter()
            .zip(hows)
            .map(|(delivery, how)| json!({ "id": delivery["id"], "how": how }))
            .collect();
        let settle = json!({ "settle": settle });
        let unread = deliveries.len() - printed;
        match admin.send(&Method::POST, &format!("{path}/settle"), Some(&settle))? {
            Said::No(why) => admin.refused(&why),
            Said::Yes(answer) => {
                let all = answer["settled"].as_array().map_or(&[][..], Vec::as_slice);
                match all.iter().find(|one| one["ok"] != json!(true)) {
                    None if unread > 0 => admin.refused(&format!(
                        "nobody reads the output: {unread} of {} messages were given back",
                        deliveries.len()
                    )),
                    None => Ok(ExitCode::SUCCESS),
                    Some(one) => admin.refused(one["detail"].as_str().unwrap_or("not settled")),
                }
            }
        }
    }
}
