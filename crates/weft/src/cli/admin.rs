//! Asking a running node: where its admin API is, one request to it, and what became of that.
//!
//! Exit codes are the same for every command that asks: 0 it is so, 1 the node said no (nothing of that
//! name, refused, wrong token), 2 the question did not get through.

use std::{process::ExitCode, time::Duration};

use anyhow::Context as _;
use bytes::Bytes;
use clap::Args;
use http::{Method, Request, header};
use serde::de::DeserializeOwned;
use serde_json::Value;
use weft_net::{
    Address, ConnectTarget,
    client::{self, Version},
};

use super::{Output, print, print_error};

/// How long a node may take to answer; a reload takes longest.
const TIMEOUT: Duration = Duration::from_secs(30);
const JSON: &str = "application/json";
/// The longest answer that is read: a configuration of many thousand routes.
const ANSWER_BYTES_MAX: usize = 256 * 1024 * 1024;

/// The node that is asked.
#[derive(Clone, Debug, Args)]
pub struct Admin {
    /// The admin API of the node: `http://HOST:PORT`, or `unix:/path/to.sock`.
    #[arg(
        id = "admin",
        long = "admin",
        env = "WEFT_ADMIN",
        default_value = "http://127.0.0.1:9901",
        value_name = "URL",
        global = true
    )]
    pub url: String,
    /// The token of the admin API, if it has one.
    #[arg(long, env = "WEFT_ADMIN_TOKEN", hide_env_values = true, global = true)]
    pub token: Option<String>,
    /// How the answer is shown.
    #[arg(long, value_enum, default_value_t, global = true)]
    pub output: Output,
}

/// What the node said.
#[derive(Debug)]
pub(super) enum Said {
    /// It did it.
    Yes(Value),
    /// It did not; why.
    No(String),
}

impl Admin {
    /// Asks, and shows the answer: as it is for programs, else as `tell` makes it for people.
    pub(super) fn ask<T: DeserializeOwned>(
        &self,
        method: &Method,
        path: &str,
        body: Option<&Value>,
        tell: impl FnOnce(&T) -> String,
    ) -> anyhow::Result<ExitCode> {
        self.ask_as(method, path, body.map(|body| (body, JSON)), tell)
    }

    /// Asks with a body of another media type.
    pub(super) fn ask_as<T: DeserializeOwned>(
        &self,
        method: &Method,
        path: &str,
        body: Option<(&Value, &str)>,
        tell: impl FnOnce(&T) -> String,
    ) -> anyhow::Result<ExitCode> {
        self.show(method, path, body, |answer| Ok(tell(&read(answer)?)))
    }

    /// Asks, and shows the answer: as it is for programs, else as `tell` makes it for people.
    pub(super) fn show(
        &self,
        method: &Method,
        path: &str,
        body: Option<(&Value, &str)>,
        tell: impl FnOnce(Value) -> anyhow::Result<String>,
    ) -> anyhow::Result<ExitCode> {
        match self.send_as(method, path, body) {
            Ok(Said::Yes(value)) => {
                match self.output {
                    Output::Json => print(&format!("{value:#}\n"))?,
                    Output::Text => print(&printable(&tell(value)?))?,
                }
                Ok(ExitCode::SUCCESS)
            }
            Ok(Said::No(why)) => self.refused(&why),
            Err(error) => {
                print_error(&printable(&format!("error: {error:#}\n")))?;
                Ok(ExitCode::from(2))
            }
        }
    }

    /// Tells why the node refused.
    pub(super) fn refused(&self, why: &str) -> anyhow::Result<ExitCode> {
        print_error(&printable(&format!("error: {why}\n")))?;
        Ok(ExitCode::from(1))
    }

    /// Sends one request, and reads what the node said.
    pub(super) fn send(
        &self,
        method: &Method,
        path: &str,
        body: Option<&Value>,
    ) -> anyhow::Result<Said> {
        self.send_as(method, path, body.map(|body| (body, JSON)))
    }

    fn send_as(
        &self,
        method: &Method,
        path: &str,
        body: Option<(&Value, &str)>,
    ) -> anyhow::Result<Said> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let place = Place::parse(&self.url)?;
        let mut request = Request::builder().method(method).uri(path);
        if let Some(host) = &place.host {
            request = request.header(header::HOST, host);
        }
        if let Some(token) = &self.token {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        let bytes = body.map(|(body, _)| Bytes::from(body.to_string())).unwrap_or_default();
        if let Some((_, media)) = body {
            request = request.header(header::CONTENT_TYPE, media);
        }
        let request = request.body(bytes).context("the token cannot be sent")?;
        let answer = runtime
            .block_on(async {
                let target = ConnectTarget {
                    address: place.address().await?,
                    tls: None,
                    proxy_header: None,
                };
                let answer =
                    client::request(&target, Version::Http1, request, ANSWER_BYTES_MAX, TIMEOUT);
                Ok::<_, anyhow::Error>(answer.await?)
            })
            .with_context(|| format!("cannot ask the admin API at {}", self.url))?;
        let value = match answer.body.is_empty() {
            true => Ok(Value::Null),
            false => serde_json::from_slice::<Value>(&answer.body),
        };
        if answer.status.is_success() {
            let value = value.with_context(|| format!("{} is no admin API of Weft", self.url))?;
            return Ok(Said::Yes(value));
        }
        // The schema registry tells refusals in its own words.
        let said = |value: &Value, of: &str| Some(value.get(of)?.as_str()?.to_owned());
        let detail =
            value.ok().and_then(|value| said(&value, "detail").or_else(|| said(&value, "message")));
        Ok(Said::No(detail.unwrap_or_else(|| format!("the node answered {}", answer.status))))
    }
}

/// An answer as a type.
pub(super) fn read<T: DeserializeOwned>(answer: Value) -> anyhow::Result<T> {
    serde_json::from_value(answer)
        .context("the node answers in a way that this version does not know")
}

/// A body of JSON.
pub(super) fn json(body: &Value) -> (&Value, &str) {
    (body, JSON)
}

/// Where an admin API is.
#[derive(Debug, PartialEq, Eq)]
struct Place {
    /// The value of the `Host` field.
    host: Option<String>,
    /// What is connected to, a name not yet looked up.
    to: To,
}

#[derive(Debug, PartialEq, Eq)]
enum To {
    Known(Address),
    Name(String, u16),
}

impl Place {
    fn parse(url: &str) -> anyhow::Result<Self> {
        if url.starts_with("unix:") {
            return Ok(Self { host: None, to: To::Known(url.parse()?) });
        }
        anyhow::ensure!(
            !url.starts_with("https://"),
            "the admin API speaks plain HTTP: write http:// in `{url}`"
        );
        let authority = url.strip_prefix("http://").unwrap_or(url).trim_end_matches('/');
        let parsed: http::uri::Authority = authority.parse().with_context(|| {
            format!("`{url}` is not the URL of an admin API, such as http://127.0.0.1:9901")
        })?;
        let port = parsed.port_u16().unwrap_or(80);
        let name = parsed.host();
        let bare = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
        let to = match bare.parse::<std::net::IpAddr>() {
            Ok(ip) => To::Known(std::net::SocketAddr::new(ip, port).into()),
            Err(_name) => To::Name(name.to_owned(), port),
        };
        Ok(Self { host: Some(authority.to_owned()), to })
    }

    async fn address(&self) -> anyhow::Result<Address> {
        match &self.to {
            To::Known(address) => Ok(address.clone()),
            To::Name(name, port) => {
                let mut found = tokio::net::lookup_host((name.as_str(), *port)).await?;
                let first = found.next().with_context(|| format!("{name} has no address"))?;
                Ok(first.into())
            }
        }
    }
}

/// Refuses to delete anything whose name was not said twice.
pub(super) fn confirmed(what: &str, name: &str, confirm: &str) -> anyhow::Result<()> {
    anyhow::ensure!(name == confirm, "`--confirm {confirm}` is not the {what} `{name}`");
    Ok(())
}

/// A segment of a path, escaped.
pub(super) fn segment(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~:".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

/// A table without lines, as wide as it needs to be.
pub(super) fn table<R: IntoIterator<Item = String>>(
    header: &[&str],
    rows: impl IntoIterator<Item = R>,
) -> String {
    let mut table = comfy_table::Table::new();
    table.load_style(comfy_table::presets::NOTHING);
    table.set_header(header.iter().map(|word| word.to_uppercase()));
    for row in rows {
        table.add_row(row.into_iter());
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    let mut out = String::new();
    for line in table.to_string().lines() {
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out
}

/// Text that may be missing, for a table.
pub(super) fn or_dash(text: Option<&str>) -> String {
    text.filter(|text| !text.is_empty()).unwrap_or("-").to_owned()
}

/// A time in seconds, for people.
pub(super) fn span(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3_600 => format!("{}m{}s", seconds / 60, seconds % 60),
        3_600..86_400 => format!("{}h{}m", seconds / 3_600, seconds / 60 % 60),
        _ => format!("{}d{}h", seconds / 86_400, seconds / 3_600 % 24),
    }
}

/// Control characters never reach a terminal.
pub(super) fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && c != '\n' { '\u{fffd}' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_is_well_formed() {
        <crate::cli::Cli as clap::CommandFactory>::command().debug_assert();
    }

    #[test]
    fn a_place_is_read_as_people_write_it() {
        let tcp = |text: &str| To::Known(text.parse().unwrap());
        for (url, host, to) in [
            ("http://127.0.0.1:9901", Some("127.0.0.1:9901"), tcp("127.0.0.1:9901")),
            ("http://127.0.0.1:9901/", Some("127.0.0.1:9901"), tcp("127.0.0.1:9901")),
            ("127.0.0.1:9901", Some("127.0.0.1:9901"), tcp("127.0.0.1:9901")),
            ("http://[::1]:9901", Some("[::1]:9901"), tcp("[::1]:9901")),
            ("http://127.0.0.1", Some("127.0.0.1"), tcp("127.0.0.1:80")),
            ("http://weft:9901", Some("weft:9901"), To::Name("weft".into(), 9901)),
            ("unix:/run/a.sock", None, tcp("unix:/run/a.sock")),
        ] {
            let place = Place { host: host.map(Into::into), to };
            assert_eq!(Place::parse(url).unwrap(), place, "{url}");
        }
        for (url, part) in [
            ("https://weft:9901", "plain HTTP"),
            ("http://", "is not the URL"),
            ("http://a/b", "is not the URL"),
            ("http://a b", "is not the URL"),
            ("unix:relative", "begins with `/`"),
        ] {
            let error = format!("{:#}", Place::parse(url).unwrap_err());
            assert!(error.contains(part), "{url}: {error}");
        }
    }

    #[test]
    fn what_is_shown_is_short_and_safe() {
        assert_eq!(segment("team/orders v2"), "team%2Forders%20v2");
        assert_eq!(segment("10.0.0.1:80"), "10.0.0.1:80");
        for (seconds, text) in
            [(0, "0s"), (59, "59s"), (61, "1m1s"), (3_661, "1h1m"), (90_000, "1d1h")]
        {
            assert_eq!(span(seconds), text);
        }
        assert_eq!(printable("a\u{1b}[2Jb\n"), "a\u{fffd}[2Jb\n");
        let shown = table(&["a", "b"], [["x".to_owned(), "y".to_owned()]]);
        assert_eq!(shown.lines().count(), 2);
        assert!(shown.starts_with("A "), "{shown}");
    }
}
