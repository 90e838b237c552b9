//! Carries spans to their collector, by the node's HTTP client.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::Request;
use weft_net::client::{Client, Options, Resolver, Version};
use weft_telemetry::otlp::{self, Answering, Protocol};

use crate::components::trust::trust;

/// The transport of one exporter.
#[derive(Debug)]
pub struct Collector(Client);

impl Collector {
    /// Reads the certificates for an endpoint that begins with `https://`; nothing is connected yet.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn new(options: &otlp::Options, resolver: Arc<dyn Resolver>) -> anyhow::Result<Self> {
        let tls = if options.endpoint.starts_with("https://") {
            Some(trust(options.ca_file.clone())?.1)
        } else {
            None
        };
        let options = Options { connect_timeout: options.timeout, ..Options::default() };
        Ok(Self(Client::new(options, resolver, tls)))
    }
}

impl otlp::Transport for Collector {
    fn send(
        &self,
        protocol: Protocol,
        request: Request<Bytes>,
        timeout: Duration,
    ) -> Answering<'_> {
        let version = match protocol {
            Protocol::Grpc => Version::Http2,
            Protocol::Http => Version::Http1,
        };
        Box::pin(async move {
            let most = otlp::ANSWER_BYTES_MAX;
            let answer = self.0.request_leniently(version, request, most, timeout).await?;
            Ok(otlp::Answer {
                status: answer.status,
                headers: answer.headers,
                body: answer.body,
                trailers: answer.trailers,
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use weft_net::client::System;

    use super::*;

    #[test]
    fn certificates_are_read_before_anything_is_connected() {
        let at = |endpoint: &str| otlp::Options {
            endpoint: endpoint.into(),
            ca_file: Some("/nonexistent.pem".into()),
            ..otlp::Options::default()
        };
        let open = |endpoint| Collector::new(&at(endpoint), Arc::new(System));
        let said = format!("{:#}", open("https://h").unwrap_err());
        assert!(said.contains("/nonexistent.pem"), "{said}");
        assert!(open("http://h").is_ok());
    }
}
