//! Look-ups through the name servers that the machine is configured with, and its hosts file.
//!
//! The resolver's own cache is turned off: [`Resolution`](super::Resolution) keeps what stands, and
//! must be able to ask again when endpoints fail before their TTL is over.

use std::{net::IpAddr, sync::Arc, time::Duration};

use hickory_resolver::{
    TokioResolver,
    config::{LookupIpStrategy, ResolverConfig, ResolverOpts},
    net::{DnsError, NetError, runtime::TokioRuntimeProvider},
    proto::rr::{RData, RecordType, rdata::SRV},
};
use tokio::task::JoinSet;
use weft_kernel::{Error, Reason, Result};
use weft_net::client::{Resolver, Resolving};

use super::{Answer, Failure, Lookup, LookupFuture, Query, Record};
use crate::options::Family;

/// One look-up, all of its tries included, takes at most this long.
const TIMEOUT: Duration = Duration::from_secs(10);
/// One try takes at most this long.
const TRY_TIMEOUT: Duration = Duration::from_secs(2);
/// Tries after the first.
const TRIES: usize = 1;
/// The most records that are taken from one answer.
const RECORDS_MAX: usize = 1_024;
/// The most SRV targets that are looked up at once.
const TARGETS_AT_ONCE: usize = 16;

/// The DNS client.
#[derive(Clone)]
pub struct Hickory {
    /// One for each family, since the choice is an option of the client.
    ipv4: TokioResolver,
    ipv6: TokioResolver,
    both: TokioResolver,
}

impl std::fmt::Debug for Hickory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Hickory").finish_non_exhaustive()
    }
}

impl Hickory {
    /// A client of the name servers in the system's configuration.
    pub fn system() -> Result<Self> {
        let (config, options) =
            hickory_resolver::system_conf::read_system_conf().map_err(|error| {
                Error::new(Reason::DnsFailed, "the system's DNS configuration cannot be read")
                    .because(error)
            })?;
        Self::new(config, options)
    }

    /// A client of the name servers in a configuration.
    pub fn new(config: ResolverConfig, mut options: ResolverOpts) -> Result<Self> {
        options.cache_size = 0;
        options.timeout = TRY_TIMEOUT;
        options.attempts = TRIES;
        let build = |strategy| {
            let mut options = options.clone();
            options.ip_strategy = strategy;
            TokioResolver::builder_with_config(config.clone(), TokioRuntimeProvider::default())
                .with_options(options)
                .build()
                .map_err(|error| {
                    Error::new(Reason::DnsFailed, "the DNS client cannot be set up").because(error)
                })
        };
        Ok(Self {
            ipv4: build(LookupIpStrategy::Ipv4thenIpv6)?,
            ipv6: build(LookupIpStrategy::Ipv6thenIpv4)?,
            both: build(LookupIpStrategy::Ipv4AndIpv6)?,
        })
    }

    fn of(&self, family: Family) -> &TokioResolver {
        match family {
            Family::PreferIpv4 => &self.ipv4,
            Family::PreferIpv6 => &self.ipv6,
            Family::Both => &self.both,
        }
    }

    async fn resolve(&self, query: &Query) -> Result<Answer, Failure> {
        match query {
            Query::Host { host, port, family } => {
                let (addresses, ttl) = addresses(self.of(*family), host).await?;
                let hostname: Arc<str> = host.strip_suffix('.').unwrap_or(host).into();
                let records = addresses
                    .into_iter()
                    .map(|ip| Record {
                        address: (ip, *port).into(),
                        hostname: Arc::clone(&hostname),
                        priority: 0,
                        weight: 1,
                    })
                    .collect();
                Ok(Answer { records, ttl })
            }
            Query::Srv { name, family } => self.services(name, *family).await,
        }
    }

    async fn services(&self, name: &str, family: Family) -> Result<Answer, Failure> {
        let resolver = self.of(family);
        let lookup =
            resolver.lookup(name, RecordType::SRV).await.map_err(|error| failure(name, &error))?;
        let mut ttl = left(lookup.valid_until());
        // A target of "." says that the service is decidedly not offered (RFC 2782).
        let mut waiting: Vec<SRV> = lookup
            .answers()
            .iter()
            .filter_map(|record| match &record.data {
                RData::SRV(srv) if !srv.target.is_root() => Some(srv.clone()),
                _ => None,
            })
            .take(RECORDS_MAX)
            .collect();
        if waiting.is_empty() {
            return Err(Failure::Empty(format!("{name}: no SRV record")));
        }
        let mut tasks = JoinSet::new();
        let mut records = Vec::new();
        let mut last = None;
        loop {
            while tasks.len() < TARGETS_AT_ONCE {
                let Some(srv) = waiting.pop() else { break };
                let resolver = resolver.clone();
                tasks.spawn(async move {
                    let target = srv.target.to_utf8();
                    let found = addresses(&resolver, &target).await;
                    (srv, target, found)
                });
            }
            let Some(done) = tasks.join_next().await else { break };
            let Ok((srv, target, found)) = done else { continue };
            match found {
                Ok((addresses, target_ttl)) => {
                    ttl = ttl.min(target_ttl);
                    let hostname: Arc<str> = target.strip_suffix('.').unwrap_or(&target).into();
                    records.extend(addresses.into_iter().map(|ip| Record {
                        address: (ip, srv.port).into(),
                        hostname: Arc::clone(&hostname),
                        priority: srv.priority,
                        // 0 means "hardly ever" beside others; 1 comes close, and all 0 is even.
                        weight: u32::from(srv.weight).max(1),
                    }));
                }
                // One target that does not resolve does not take the others along.
                Err(failure) => last = Some(failure),
            }
        }
        records.truncate(RECORDS_MAX);
        match last {
            Some(failure) if records.is_empty() => Err(failure),
            _ => Ok(Answer { records, ttl }),
        }
    }
}

impl Lookup for Hickory {
    fn lookup<'a>(&'a self, query: &'a Query) -> LookupFuture<'a> {
        Box::pin(async move {
            tokio::time::timeout(TIMEOUT, self.resolve(query)).await.unwrap_or_else(
                |_: tokio::time::error::Elapsed| {
                    Err(Failure::Unanswered(format!("{query}: no answer within {TIMEOUT:?}")))
                },
            )
        })
    }
}

/// For clients that connect to hosts outside of any service: every address, IPv4 in front as for services.
impl Resolver for Hickory {
    fn resolve<'a>(&'a self, host: &'a str) -> Resolving<'a> {
        Box::pin(async move {
            let query = Query::Host { host: host.into(), port: 0, family: Family::Both };
            let answer = self.lookup(&query).await.map_err(|failure| {
                Error::new(Reason::DnsFailed, format!("{host} was not found: {}", failure.detail()))
            })?;
            let mut found: Vec<IpAddr> = answer.records.iter().map(|of| of.address.ip()).collect();
            found.sort_by_key(IpAddr::is_ipv6);
            Ok(found)
        })
    }
}

fn left(until: std::time::Instant) -> Duration {
    until.saturating_duration_since(std::time::Instant::now())
}

async fn addresses(
    resolver: &TokioResolver,
    host: &str,
) -> Result<(Vec<IpAddr>, Duration), Failure> {
    let lookup = resolver.lookup_ip(host).await.map_err(|error| failure(host, &error))?;
    let addresses: Vec<IpAddr> = lookup.iter().take(RECORDS_MAX).collect();
    if addresses.is_empty() {
        return Err(Failure::Empty(format!("{host}: no address")));
    }
    Ok((addresses, left(lookup.valid_until())))
}

fn failure(name: &str, error: &NetError) -> Failure {
    match error {
        NetError::Dns(DnsError::NoRecordsFound(none)) => {
            use hickory_resolver::proto::op::ResponseCode;
            let detail = format!("{name}: {}", none.response_code);
            match none.response_code {
                ResponseCode::NXDomain | ResponseCode::NoError => Failure::Empty(detail),
                _ => Failure::Unanswered(detail),
            }
        }
        other => Failure::Unanswered(format!("{name}: {other}")),
    }
}
