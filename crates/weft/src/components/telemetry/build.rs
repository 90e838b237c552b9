//! From the section of telemetry to what is asked for.

use weft_telemetry::{access, log, otlp};

use super::{
    plan,
    sections::{self, Format, Include, Level, Otlp, Output, Telemetry},
};
use crate::config::{catalogue::Sections, leaf::Switch, setting::Cx};

/// Where logs and spans go, and what stands in them.
pub(super) fn build(said: &Sections<'_>, cx: &mut Cx) -> Option<plan::Telemetry> {
    let section = said.read(&sections::TELEMETRY, cx)?;
    Some(plan::Telemetry {
        access_log: access_log(&section),
        trace_sample: section.tracing.sample.0,
        otlp: section.tracing.endpoint.as_ref().map(|endpoint| otlp::Options {
            endpoint: endpoint.value.0.clone(),
            protocol: match section.tracing.protocol {
                Otlp::Grpc => otlp::Protocol::Grpc,
                Otlp::Http => otlp::Protocol::Http,
            },
            headers: section
                .tracing
                .headers
                .0
                .iter()
                .map(|(name, value)| (name.0.clone(), value.reveal().to_owned()))
                .collect(),
            timeout: section.tracing.timeout.0,
            ..otlp::Options::default()
        }),
        log: log::Options {
            format: match section.log.format {
                Format::Text => log::Format::Text,
                Format::Json => log::Format::Json,
            },
            filter: match section.log.level {
                Level::Error => "error",
                Level::Warn => "warn",
                Level::Info => "info",
                Level::Debug => "debug",
                Level::Trace => "trace",
            }
            .into(),
        },
    })
}

fn access_log(section: &Telemetry) -> access::Options {
    let Switch::On(section) = &section.access_log else {
        return access::Options { include: access::Include::None, ..access::Options::default() };
    };
    access::Options {
        format: match section.format {
            Format::Text => access::Format::Text,
            Format::Json => access::Format::Json,
        },
        destination: match &section.output {
            Output::Stdout => access::Destination::Stdout,
            Output::Stderr => access::Destination::Stderr,
            Output::File(path) => access::Destination::File(path.clone()),
        },
        include: match section.include {
            Include::All => access::Include::All,
            Include::Errors => access::Include::Errors,
            Include::None => access::Include::None,
        },
        sample: section.sample.0,
        ..access::Options::default()
    }
}
