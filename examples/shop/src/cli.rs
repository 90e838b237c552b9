//! What can be asked of the program.

use std::{net::SocketAddr, time::Duration};

use clap::{Args, FromArgMatches, Parser, Subcommand, ValueEnum};

/// The example fleet of Weft: one small service a process, and a client for its gRPC methods.
#[derive(Debug, Parser)]
#[command(name = "weft-shop", version)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// A service to run, or a call to make.
#[derive(Debug)]
pub(crate) enum Command {
    Serve(Service, Serve),
    Call(Call),
}

/// The services of the shop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Service {
    Users,
    Orders,
    Inventory,
    Payments,
    Shipping,
    Notifications,
    Invoices,
    Accounts,
}

impl Service {
    /// The word on the command line and in instance names.
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Users => "users",
            Self::Orders => "orders",
            Self::Inventory => "inventory",
            Self::Payments => "payments",
            Self::Shipping => "shipping",
            Self::Notifications => "notifications",
            Self::Invoices => "invoices",
            Self::Accounts => "accounts",
        }
    }

    const fn about(self) -> &'static str {
        match self {
            Self::Users => "Run users: gRPC, people who can order",
            Self::Orders => "Run orders: REST and gRPC on one port, calls inventory and payments",
            Self::Inventory => "Run inventory: REST, stock and reservations",
            Self::Payments => "Run payments: REST, authorisations",
            Self::Shipping => "Run shipping: REST, shipments; takes orders by AMQP",
            Self::Notifications => {
                "Run notifications: REST, messages to people; orders are pushed to it"
            }
            Self::Invoices => "Run invoices: REST, what is owed; pulls orders",
            Self::Accounts => "Run accounts: an OpenID Connect provider, by which people log in",
        }
    }
}

/// How one instance of a service runs.
#[derive(Clone, Debug, Args)]
pub(crate) struct Serve {
    /// Where to listen; port 0 takes a free one, and the line that is printed says which
    #[arg(long, default_value = "127.0.0.1:0")]
    pub(crate) listen: SocketAddr,
    /// The base URL of Weft, through which other services are called
    #[arg(long, value_name = "URL")]
    pub(crate) weft: Option<String>,
    /// The AMQP URL of Weft, from which orders are taken
    #[arg(long, value_name = "URL")]
    pub(crate) amqp: Option<String>,
    /// How long each request takes at least
    #[arg(long, value_name = "DURATION", default_value = "0", value_parser = duration)]
    pub(crate) latency: Duration,
    /// How much longer, at most, drawn evenly
    #[arg(long, value_name = "DURATION", default_value = "0", value_parser = duration)]
    pub(crate) latency_jitter: Duration,
    /// The share of requests that fail with 503, from 0 to 1
    #[arg(long, value_name = "RATIO", default_value_t = 0.0)]
    pub(crate) fail: f64,
    /// What tells this instance from its siblings: `--name 2` makes `users-2`
    #[arg(long, default_value = "1")]
    pub(crate) name: String,
    /// Print a line for each request
    #[arg(long)]
    pub(crate) verbose: bool,
}

/// A gRPC call to the shop, with messages written as JSON.
#[derive(Clone, Debug, Args)]
#[command(about = "Call a gRPC method, such as `call users GetUser '{\"id\":1}'`")]
pub(crate) struct Call {
    /// `users` or `orders`
    pub(crate) service: String,
    /// The method, such as GetUser
    pub(crate) method: String,
    /// The request as JSON
    #[arg(default_value = "{}")]
    pub(crate) message: String,
    /// Where to send it
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8080")]
    pub(crate) to: String,
    /// How many times, one after the other on one connection
    #[arg(long, default_value_t = 1)]
    pub(crate) repeat: u32,
    /// The deadline of each call
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = duration)]
    pub(crate) timeout: Duration,
    /// Metadata to send, such as `tenant: acme`; may be repeated
    #[arg(long = "header", short = 'H', value_name = "NAME: VALUE")]
    pub(crate) headers: Vec<String>,
    /// Print how many answers each instance gave instead of the answers
    #[arg(long)]
    pub(crate) instances: bool,
}

fn duration(text: &str) -> Result<Duration, weft_kernel::units::ParseUnitError> {
    weft_kernel::parse_duration(text)
}

// Written by hand because the service is the subcommand's name: the derive would want the same
// arguments spelled out in six variants.
impl FromArgMatches for Command {
    fn from_arg_matches(matches: &clap::ArgMatches) -> Result<Self, clap::Error> {
        let missing = || clap::Error::new(clap::error::ErrorKind::MissingSubcommand);
        let (name, matches) = matches.subcommand().ok_or_else(missing)?;
        if name == "call" {
            return Call::from_arg_matches(matches).map(Self::Call);
        }
        let service = Service::from_str(name, false).map_err(|_unknown: String| missing())?;
        Ok(Self::Serve(service, Serve::from_arg_matches(matches)?))
    }

    fn update_from_arg_matches(&mut self, matches: &clap::ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl Subcommand for Command {
    fn augment_subcommands(mut command: clap::Command) -> clap::Command {
        for service in Service::value_variants() {
            let serve = Serve::augment_args(clap::Command::new(service.word()));
            command = command.subcommand(serve.about(service.about()));
        }
        command.subcommand(Call::augment_args(clap::Command::new("call"))).subcommand_required(true)
    }

    fn augment_subcommands_for_update(command: clap::Command) -> clap::Command {
        Self::augment_subcommands(command)
    }

    fn has_subcommand(name: &str) -> bool {
        name == "call" || Service::from_str(name, false).is_ok()
    }
}
