//! The operator log: what Weft tells the people who run it, on standard error.
//!
//! Levels are promises: error = act now, data at risk; warn = we coped; info = you asked for this;
//! debug = one per connection; trace = one per message. At the default, `info`, nothing is logged per
//! request: that is what the access log is for.

use std::io::{self, IsTerminal};

use tracing_subscriber::{EnvFilter, fmt};
use weft_kernel::{Error, Reason};

/// How a line looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Format {
    /// For people; coloured on a terminal unless `NO_COLOR` is set.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// What is logged, and how.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    /// Text or JSON.
    pub format: Format,
    /// A level, or a list such as `info,weft_net=debug`, as tracing-subscriber's `EnvFilter` reads it.
    pub filter: String,
}

impl Default for Options {
    fn default() -> Self {
        Self { format: Format::Text, filter: "info".into() }
    }
}

/// Sets up the log of this process; to be called once, by the binary.
pub fn init(options: &Options) -> Result<(), Error> {
    let filter = filter(&options.filter)?;
    let done = match options.format {
        Format::Text => {
            let colour = io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
            let lines = fmt().with_env_filter(filter).with_writer(io::stderr).with_ansi(colour);
            lines.try_init()
        }
        Format::Json => {
            let lines = fmt().json().flatten_event(true).with_env_filter(filter);
            lines.with_writer(io::stderr).try_init()
        }
    };
    done.map_err(|error| Error::new(Reason::Internal, "the log is already set up").because(error))
}

fn filter(text: &str) -> Result<EnvFilter, Error> {
    EnvFilter::builder().parse(text).map_err(|error| {
        let say = format!(
            "`{text}` is not a log filter: write a level such as info, or info,weft_net=debug"
        );
        Error::new(Reason::Misconfigured, say).because(error)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_are_checked() {
        for good in ["info", "debug", "off", "warn,weft_net=debug,h2=off"] {
            assert!(filter(good).is_ok(), "{good}");
        }
        for bad in ["info,weft_net=loud", "a=b=c"] {
            let said = filter(bad).unwrap_err().to_string();
            assert!(said.contains(bad), "{said}");
        }
    }
}
