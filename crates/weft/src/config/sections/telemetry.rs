//! What Weft tells about itself.

use crate::config::{
    leaf::{FilePath, Pairs, Secret, Share, Span, Switch},
    problem::Problem,
    setting::{At, Cx, Setting, Shape, settings, words},
    text::FieldName,
    tree::Node,
};

words! {
    /// Which requests are logged.
    pub enum Include {
        /// every request
        All = "all",
        /// those that failed
        Errors = "errors",
        /// none
        None = "none",
    }

    /// How a log is written.
    pub enum Format {
        /// for people
        Text = "text",
        /// one JSON object a line
        Json = "json",
    }

    /// How much is logged.
    pub enum Level {
        /// act now
        Error = "error",
        /// and what was coped with
        Warn = "warn",
        /// and what was asked for
        Info = "info",
        /// and a line per connection
        Debug = "debug",
        /// and a line per message
        Trace = "trace",
    }

    /// How traces are sent.
    pub enum Otlp {
        /// OTLP over gRPC
        Grpc = "grpc",
        /// OTLP as protobuf over HTTP
        Http = "http" | "http/protobuf",
    }
}

settings! {
    /// What Weft tells about itself.
    pub struct Telemetry = "telemetry" {
        /// A line per request.
        access_log: Switch<AccessLog> = "on",
        /// Traces, sent by OTLP.
        tracing: Tracing,
        /// The log for operators.
        log: Log,
    }

    /// A line per request.
    pub struct AccessLog = "access log", short "include" {
        /// Which requests.
        include: Include = "errors",
        /// How it is written.
        format: Format = "json",
        /// `stdout`, `stderr`, or the path of a file.
        output: Output = "stdout",
        /// The share of requests without an error that is written.
        sample: Share = "1",
    }

    /// Traces.
    pub struct Tracing = "tracing", short "endpoint" {
        /// Where spans are sent, such as `http://127.0.0.1:4317`; without it, none are.
        endpoint: Option<At<Url>>,
        /// How they are sent.
        protocol: Otlp = "grpc",
        /// The share of traces that begin here and are kept; those that failed always are.
        sample: Share = "0.01",
        /// Further fields of each export.
        headers: Pairs<FieldName, Secret>,
        /// For one export.
        timeout: Span = "10s",
    }

    /// The log for operators.
    pub struct Log = "log", short "level" {
        /// How much.
        level: Level = "info",
        /// How it is written.
        format: Format = "text",
    }
}

/// Where a log goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// The standard output.
    Stdout,
    /// The standard error.
    Stderr,
    /// A file, which is appended to.
    File(std::path::PathBuf),
}

impl Setting for Output {
    fn shape() -> Shape {
        FilePath::shape()
    }

    fn read(node: &Node, cx: &mut Cx) -> Option<Self> {
        match node.text() {
            Some("stdout") => Some(Self::Stdout),
            Some("stderr") => Some(Self::Stderr),
            _ => {
                let FilePath(path) = FilePath::read(node, cx)?;
                let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
                let what = match folder {
                    _ if path.is_dir() => format!("{} is a folder", path.display()),
                    Some(folder) if !folder.is_dir() => {
                        format!("there is no folder {}", folder.display())
                    }
                    _ => return Some(Self::File(path)),
                };
                cx.report(
                    Problem::error(node.place, what)
                        .help("Weft makes the file, in a folder that is there"),
                );
                None
            }
        }
    }
}

/// An `http` or `https` address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Url(pub String);

impl Setting for Url {
    fn shape() -> Shape {
        Shape::Text { what: "URL", pattern: Some("^https?://") }
    }

    fn read(node: &Node, cx: &mut Cx) -> Option<Self> {
        let text = cx.text(node, "a URL")?;
        let good = text.parse::<http::Uri>().is_ok_and(|uri| {
            matches!(uri.scheme_str(), Some("http" | "https"))
                && uri.host().is_some_and(|h| !h.is_empty())
        });
        if good {
            return Some(Self(text.to_owned()));
        }
        cx.report(
            Problem::error(node.place, "expected a URL that begins with http:// or https://")
                .help("write http://127.0.0.1:4317"),
        );
        None
    }
}
