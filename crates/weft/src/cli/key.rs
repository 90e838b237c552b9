//! `weft key`: API keys for configurations that hold no secrets, but digests of them.

use std::{io::Read as _, process::ExitCode};

use anyhow::Context as _;
use clap::{Args, Subcommand};
use serde_json::json;
use weft_gateway::{Digest, credential::KEY_BYTES_MAX, key};

use super::{Output, print};

/// API keys, and their digests for the configuration.
#[derive(Debug, Args)]
pub struct Key {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Draw a key, and print it with the digest that stands for it in `api_keys`.
    Create {
        /// Prefix of the key, before an underscore, by which scanners know it.
        #[arg(long, default_value = "weft", value_parser = prefix)]
        prefix: String,
        /// Output format.
        #[arg(long, value_enum, default_value_t)]
        output: Output,
    },
    /// Print the digest of the key on the standard input.
    Digest {
        /// User name: the standard input is the password of this user, and the digest stands in `passwords`.
        #[arg(long, value_name = "NAME")]
        username: Option<String>,
    },
}

fn prefix(text: &str) -> Result<String, String> {
    match key::is_prefix(text) {
        true => Ok(text.to_owned()),
        false => Err(format!(
            "a prefix is 1 to {} letters, digits and underscores",
            key::PREFIX_BYTES_MAX
        )),
    }
}

impl Key {
    /// Exits with 0.
    pub fn run(self) -> anyhow::Result<ExitCode> {
        match self.action {
            Action::Create { prefix, output } => {
                let key = key::draw(&prefix).context("the system gives no chance")?;
                let digest = Digest::of_api_key(key.as_bytes()).written();
                print(&match output {
                    Output::Json => format!("{:#}\n", json!({ "key": key, "digest": digest })),
                    Output::Text => format!("key    {key}\ndigest {digest}\n"),
                })?;
            }
            Action::Digest { username } => {
                let mut bytes = Vec::new();
                let most = KEY_BYTES_MAX as u64 + 2;
                std::io::stdin().lock().take(most).read_to_end(&mut bytes)?;
                let secret = bytes.trim_ascii_end();
                anyhow::ensure!(!secret.is_empty(), "nothing is on the standard input");
                anyhow::ensure!(
                    secret.len() <= KEY_BYTES_MAX,
                    "a key has at most {KEY_BYTES_MAX} bytes"
                );
                let digest = match username {
                    Some(username) => Digest::of_basic(username.as_bytes(), secret),
                    None => Digest::of_api_key(secret),
                };
                print(&format!("{}\n", digest.written()))?;
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}
