//! Where something listens: an IP address with a port, or a Unix socket.

use std::{
    fmt,
    net::SocketAddr,
    path::{Path, PathBuf},
    str::FromStr,
};

/// The longest path of a Unix socket: `sun_path` less its closing NUL (unix(7)).
pub const UNIX_PATH_BYTES_MAX: usize = 107;

/// An address to listen on or to connect to; names are resolved elsewhere.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Address {
    /// An IP address and a port.
    Tcp(SocketAddr),
    /// The path of a Unix socket; empty for the unnamed end of one.
    Unix(PathBuf),
}

/// A text that is not an address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not an address: {hint}")]
pub struct ParseAddressError {
    text: String,
    hint: String,
}

impl Address {
    /// The IP address and port, unless it is a Unix socket.
    pub fn tcp(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(address) => Some(*address),
            Self::Unix(_) => None,
        }
    }

    /// The address of one end of a Unix connection.
    pub(crate) fn unix(address: &tokio::net::unix::SocketAddr) -> Self {
        Self::Unix(address.as_pathname().map(Path::to_path_buf).unwrap_or_default())
    }
}

impl From<SocketAddr> for Address {
    /// An IPv4 address that a dual-stack socket shows as IPv6 is written as IPv4 again, so that one
    /// caller has one address whatever the listener is.
    fn from(address: SocketAddr) -> Self {
        match address {
            SocketAddr::V6(six) => match six.ip().to_ipv4_mapped() {
                Some(four) => Self::Tcp(SocketAddr::new(four.into(), six.port())),
                None => Self::Tcp(address),
            },
            SocketAddr::V4(_) => Self::Tcp(address),
        }
    }
}

impl FromStr for Address {
    type Err = ParseAddressError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let fail =
            |hint: String| Err(ParseAddressError { text: text.chars().take(160).collect(), hint });
        if let Some(path) = text.strip_prefix("unix:") {
            return if !path.starts_with('/') {
                fail(
                    "the path of a Unix socket begins with `/`, such as unix:/run/orders.sock"
                        .into(),
                )
            } else if path.len() > UNIX_PATH_BYTES_MAX {
                fail(format!("the path of a Unix socket has at most {UNIX_PATH_BYTES_MAX} bytes"))
            } else if path.ends_with('/') || path.contains('\0') {
                fail("the path of a Unix socket names a file".into())
            } else {
                Ok(Self::Unix(path.into()))
            };
        }
        if let Ok(address) = text.parse::<SocketAddr>() {
            return Ok(Self::Tcp(address));
        }
        if let Some(port) = text.strip_prefix(':').or_else(|| text.strip_prefix("*:"))
            && port.parse::<u16>().is_ok()
        {
            return fail(format!("write 0.0.0.0:{port}, or [::]:{port} for IPv4 and IPv6"));
        }
        if let Ok(ip) = text.parse::<std::net::IpAddr>() {
            let shown = SocketAddr::new(ip, 8080);
            return fail(format!("the port is missing, such as {shown}"));
        }
        fail("write an IP address with a port (10.0.0.1:80, [::1]:80) or unix:/path/to.sock".into())
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => fmt::Display::fmt(address, f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_parsed_is_shown_the_same() {
        for text in ["10.0.0.1:80", "[::1]:80", "0.0.0.0:0", "unix:/run/x.sock", "[fe80::1%2]:9"] {
            let address: Address = text.parse().unwrap();
            assert_eq!(address.to_string(), text);
        }
        let mapped: SocketAddr = "[::ffff:10.0.0.1]:80".parse().unwrap();
        assert_eq!(Address::from(mapped).to_string(), "10.0.0.1:80");
    }

    #[test]
    fn what_is_not_an_address_says_how_to_write_it() {
        let long = format!("unix:/{}", "x".repeat(UNIX_PATH_BYTES_MAX));
        for (text, hint) in [
            ("", "10.0.0.1:80"),
            ("localhost:80", "IP address"),
            (":8080", "0.0.0.0:8080"),
            ("*:8080", "[::]:8080"),
            ("10.0.0.1", "10.0.0.1:8080"),
            ("::1", "[::1]:8080"),
            ("10.0.0.1:70000", "port"),
            ("unix:run/x.sock", "begins with `/`"),
            ("unix:/run/", "names a file"),
            ("unix:/a\0b", "names a file"),
            (&long, "at most 107"),
        ] {
            let error = text.parse::<Address>().unwrap_err().to_string();
            assert!(error.contains(hint), "{text}: {error}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_parsed_or_refused(text in "\\PC{0,64}") {
            if let Ok(address) = text.parse::<Address>() {
                proptest::prop_assert_eq!(address.to_string().parse::<Address>(), Ok(address));
            }
        }
    }
}
