//! Why a TLS handshake with a client fails: a closed set, by which it is counted and told.

/// A reason for which a handshake failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum HandshakeFault {
    /// The client does not speak TLS.
    NotTls,
    /// What the client sent is no TLS message, or not one that may come then.
    Malformed,
    /// The server name that the client asks for is no host name.
    ServerName,
    /// No version of TLS in common.
    Version,
    /// No cipher suite, key exchange, signature scheme or protocol in common.
    NothingInCommon,
    /// The client shows no certificate where it must.
    NoCertificate,
    /// The client's certificate is not one that is believed now.
    Certificate,
    /// The client refused what it was shown, by an alert.
    Alert,
    /// The client went away.
    Closed,
    /// The client did not end its part in time.
    Timeout,
    /// Anything else.
    Other,
}

impl HandshakeFault {
    /// Each of them, by its number.
    pub const ALL: [Self; 11] = [
        Self::NotTls,
        Self::Malformed,
        Self::ServerName,
        Self::Version,
        Self::NothingInCommon,
        Self::NoCertificate,
        Self::Certificate,
        Self::Alert,
        Self::Closed,
        Self::Timeout,
        Self::Other,
    ];

    /// The word for it in metrics and logs.
    pub const fn word(self) -> &'static str {
        match self {
            Self::NotTls => "not_tls",
            Self::Malformed => "malformed",
            Self::ServerName => "server_name",
            Self::Version => "version",
            Self::NothingInCommon => "nothing_in_common",
            Self::NoCertificate => "no_certificate",
            Self::Certificate => "certificate",
            Self::Alert => "alert",
            Self::Closed => "closed",
            Self::Timeout => "timeout",
            Self::Other => "other",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_stands_at_its_number_and_has_a_word_of_its_own() {
        for (at, fault) in HandshakeFault::ALL.iter().enumerate() {
            assert_eq!(*fault as usize, at);
            let same = HandshakeFault::ALL.iter().filter(|other| other.word() == fault.word());
            assert_eq!(same.count(), 1);
        }
    }
}
