//! What Weft tells about itself.

use crate::config::{
    catalogue::KeyOf,
    leaf::{FilePath, Pairs, Secret, Share, Span, Switch},
    problem::Problem,
    setting::{At, Cx, Field, Setting, Shape, settings, words},
    text::FieldName,
    tree::Node,
};

/// What Weft tells about itself.
pub const TELEMETRY: KeyOf<Telemetry> =
    KeyOf::new("telemetry", "Access log, traces and operator log.");

/// All of them.
pub const ALL: &[Field] = &[TELEMETRY.field()];

words! {
    /// Requests that are logged.
    pub enum Include {
        /// every request
        All = "all",
        /// failed requests
        Errors = "errors",
        /// no request
        None = "none",
    }

    /// Format of a log.
    pub enum Format {
        /// text, for people
        Text = "text",
        /// JSON, one object a line
        Json = "json",
    }

    /// Log level.
    pub enum Level {
        /// error: act now
        Error = "error",
        /// warnings as well
        Warn = "warn",
        /// information as well
        Info = "info",
        /// a line per connection as well
        Debug = "debug",
        /// a line per message as well
        Trace = "trace",
    }

    /// OTLP protocol.
    pub enum Otlp {
        /// OTLP over gRPC
        Grpc = "grpc",
        /// OTLP as protobuf over HTTP
        Http = "http" | "http/protobuf",
    }
}

settings! {
    /// Access log, traces and operator log.
    pub struct Telemetry = "telemetry" {
        /// Access log: a line per request.
        access_log: Switch<AccessLog> = "on",
        /// Traces, exported by OTLP.
        tracing: Tracing,
        /// Operator log.
        log: Log,
    }

    /// Access log: a line per request.
    pub struct AccessLog = "access log", short "include" {
        /// Requests that are logged.
        include: Include = "errors",
        /// Format.
        format: Format = "json",
        /// Destination: `stdout`, `stderr`, or the path of a file.
        output: Output = "stdout",
        /// Share of requests without an error that is logged.
        sample: Share = "1",
    }

    /// Traces.
    pub struct Tracing = "tracing", short "endpoint" {
        /// URL of the OTLP collector, such as `http://127.0.0.1:4317`; without it, no span is exported.
        endpoint: Option<At<Url>>,
        /// OTLP protocol.
        protocol: Otlp = "grpc",
        /// Sampling ratio of traces that begin here; those that failed are always exported.
        sample: Share = "0.01",
        /// Additional header fields of each export.
        headers: Pairs<FieldName, Secret>,
        /// Timeout of one export.
        timeout: Span = "10s",
    }

    /// Operator log.
    pub struct Log = "log", short "level" {
        /// Level.
        level: Level = "info",
        /// Format.
        format: Format = "text",
    }
}

/// Destination of a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
    /// A file, appended to.
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
