//! The failures that a retry policy can name, and sets of them.

use std::{fmt, str::FromStr};

macro_rules! conditions {
    ($($(#[doc = $doc:literal])+ $name:ident = $word:literal;)+) => {
        /// A failure that a retry policy can name.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum Condition { $($(#[doc = $doc])+ $name,)+ }

        impl Condition {
            /// Every condition.
            pub const ALL: &[Self] = &[$(Self::$name,)+];

            /// The word in configuration.
            pub const fn word(self) -> &'static str {
                match self { $(Self::$name => $word,)+ }
            }
        }
    };
}

conditions! {
    /// No connection came to stand.
    ConnectFailure = "connect-failure";
    /// The stream was refused before anything was done.
    RefusedStream = "refused-stream";
    /// The connection or stream broke before any response header.
    ResetBeforeHeaders = "reset-before-headers";
    /// Status 502, 503 or 504.
    GatewayError = "gateway-error";
    /// Any status from 500 to 599.
    ServerError = "5xx";
    /// The time for one try passed.
    TryTimeout = "try-timeout";
    /// gRPC UNAVAILABLE.
    GrpcUnavailable = "grpc-unavailable";
    /// gRPC CANCELLED, sent by the service.
    GrpcCancelled = "grpc-cancelled";
    /// gRPC DEADLINE_EXCEEDED, sent by the service.
    GrpcDeadlineExceeded = "grpc-deadline-exceeded";
    /// gRPC RESOURCE_EXHAUSTED.
    GrpcResourceExhausted = "grpc-resource-exhausted";
    /// gRPC INTERNAL.
    GrpcInternal = "grpc-internal";
}

/// A text that names no condition.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no retry condition: use {words}", words = Words)]
pub struct ParseConditionError(String);

struct Words;

impl fmt::Display for Words {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, condition) in Condition::ALL.iter().enumerate() {
            if index > 0 {
                f.write_str(", ")?;
            }
            f.write_str(condition.word())?;
        }
        Ok(())
    }
}

impl FromStr for Condition {
    type Err = ParseConditionError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let found = Self::ALL.iter().find(|condition| condition.word() == text);
        found.copied().ok_or_else(|| ParseConditionError(text.chars().take(64).collect()))
    }
}

/// A set of conditions.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Conditions(u16);

impl Conditions {
    /// No condition.
    pub const NONE: Self = Self(0);

    /// This set and one condition more.
    #[must_use]
    pub const fn with(self, condition: Condition) -> Self {
        Self(self.0 | 1 << condition as u8)
    }

    /// Whether the condition is in the set.
    pub const fn contains(self, condition: Condition) -> bool {
        self.0 & 1 << condition as u8 != 0
    }

    /// The conditions in the set.
    pub fn iter(self) -> impl Iterator<Item = Condition> {
        Condition::ALL.iter().copied().filter(move |condition| self.contains(*condition))
    }
}

impl Default for Conditions {
    /// Connect failure, refused stream, reset before headers, 502/503/504 and gRPC UNAVAILABLE.
    fn default() -> Self {
        Self::NONE
            .with(Condition::ConnectFailure)
            .with(Condition::RefusedStream)
            .with(Condition::ResetBeforeHeaders)
            .with(Condition::GatewayError)
            .with(Condition::GrpcUnavailable)
    }
}

impl FromIterator<Condition> for Conditions {
    fn from_iter<I: IntoIterator<Item = Condition>>(conditions: I) -> Self {
        conditions.into_iter().fold(Self::NONE, Self::with)
    }
}

impl fmt::Debug for Conditions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter().map(Condition::word)).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_condition_has_its_bit_and_its_word() {
        for condition in Condition::ALL {
            assert_eq!(condition.word().parse(), Ok(*condition));
            let only = Conditions::NONE.with(*condition);
            assert_eq!(only.iter().collect::<Vec<_>>(), [*condition]);
        }
        let all: Conditions = Condition::ALL.iter().copied().collect();
        assert_eq!(all.iter().count(), Condition::ALL.len());
        assert_eq!(Conditions::default().iter().count(), 5);
    }

    #[test]
    fn an_unknown_word_is_answered_with_the_known_ones() {
        let error = "connect_failure".parse::<Condition>().unwrap_err().to_string();
        assert!(
            error.contains("`connect_failure`") && error.contains("reset-before-headers"),
            "{error}"
        );
        assert!("x".repeat(10_000).parse::<Condition>().unwrap_err().to_string().len() < 400);
    }
}
