//! Which fields may have to be taken off, told from most others by their first letter and their length, so that what a
//! request has besides costs next to nothing.

use weft_proxy::policy::KEPT_PREFIX;
use weft_wire::{Known, KnownNames};

use super::{Authentication, KeyPlace, forward::OURS};
use crate::signature::{SIGNATURE, SIGNATURE_INPUT};

/// A bit for each length of a name up to this one, which stands for all beyond it too.
const LENGTH_MAX: usize = 63;
/// Letters, and one place for whatever else a name begins with.
const FIRSTS: usize = 27;

/// Names that may have to be taken off.
#[derive(Clone, Debug)]
pub(super) struct Suspects {
    /// Of those that are known, exactly which.
    pub(super) known: KnownNames,
    /// Of all others, by letter and length.
    by_look: [u64; FIRSTS],
    /// No credentials may stand in the query or a cookie.
    pub(super) in_fields_alone: bool,
}

impl Suspects {
    /// Those that these settings speak of.
    pub(super) fn of(settings: &Authentication) -> Self {
        let mut by_look = [0_u64; FIRSTS];
        for beginning in OURS.into_iter().chain([KEPT_PREFIX]) {
            by_look[first(beginning)] |= !0 << beginning.len().min(LENGTH_MAX);
        }
        let told = settings.tokens().flat_map(|(_, method)| &method.tell).map(|(name, _)| &**name);
        let held = settings.key_places().filter_map(|place| match place {
            KeyPlace::Header(name) => Some(&**name),
            KeyPlace::Query(_) | KeyPlace::Cookie(_) => None,
        });
        let names = told.chain(held);
        for name in names.chain([Known::Authorization.text(), SIGNATURE, SIGNATURE_INPUT]) {
            by_look[first(name)] |= 1 << name.len().min(LENGTH_MAX);
        }
        let goes = |known: Known| {
            let name = known.text();
            settings.is_said(name) || settings.is_credential(name, None)
        };
        let in_fields_alone =
            settings.key_places().all(|place| matches!(place, KeyPlace::Header(_)));
        Self { known: KnownNames::of(goes), by_look, in_fields_alone }
    }

    /// Whether a name may be one of them.
    pub(super) fn may_have(&self, name: &str) -> bool {
        self.by_look[first(name)] >> name.len().min(LENGTH_MAX) & 1 == 1
    }
}

/// The place of a name's first letter; those that read alike have the same.
fn first(name: &str) -> usize {
    match name.as_bytes().first().map(u8::to_ascii_lowercase) {
        Some(letter @ b'a'..=b'z') => usize::from(letter - b'a'),
        _ => FIRSTS - 1,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{
        super::{Bearer, Combine, Scheme},
        *,
    };

    fn settings() -> Authentication {
        let place = |name: &str| KeyPlace::Header(name.into());
        let tell = [("x-user", "sub"), ("_odd", "email"), (&*"long-".repeat(20), "groups")];
        let bearer = Bearer {
            issuers: Vec::new(),
            places: vec![place("authorization"), place("x-token")],
            audiences: Vec::new(),
            scopes: Vec::new(),
            claims: Vec::new(),
            tell: tell.map(|(name, claim)| (name.to_owned(), claim.to_owned())).to_vec(),
        };
        Authentication {
            combine: Combine::Any,
            methods: vec![
                Scheme::ApiKey(vec![place("x-api-key"), KeyPlace::Query("key".into())]),
                Scheme::Jwt(bearer),
                Scheme::Basic,
            ],
            anonymous: None,
            forward: false,
            realm: "weft".into(),
            preflight: false,
        }
    }

    proptest! {
        /// Whatever is to be taken off is suspected.
        #[test]
        fn nothing_that_is_to_go_is_overlooked(
            at in 0_usize..16, odd in "[-_.~!]", more in "[a-z0-9_]{0,80}", other in "[a-zA-Z0-9_.~-]{1,40}"
        ) {
            let settings = settings();
            let suspects = Suspects::of(&settings);
            let long = "long-".repeat(20);
            let names = [
                "x-user", "_odd", &*long, "x-token", "x-api-key", "authorization", "signature", "signature-input",
                "x-consumer-username", "x-credential-identifier", "x-anonymous-consumer", "weft-kept-consumer",
            ];
            let name = names.get(at).map_or(&*other, |name| name).to_owned();
            for name in [name.replace('-', &odd), format!("{name}{odd}{more}"), name] {
                let goes = settings.is_said(&name) || settings.is_credential(&name, None);
                prop_assert!(!goes || suspects.may_have(&name), "{name}");
            }
        }
    }

    #[test]
    fn most_fields_of_a_request_are_not_suspected() {
        let suspects = Suspects::of(&settings());
        for name in
            ["host", "user-agent", "accept", "accept-encoding", "content-type", "traceparent"]
        {
            assert!(!suspects.may_have(name), "{name}");
        }
    }
}
