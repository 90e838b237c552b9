//! Tells a finished operation to whom it is to be told.
//!
//! Only what the configuration allows is told: a callback's scheme, host and port are those of one of
//! the allowed prefixes, and its path lies below that prefix's. Anything with a user, a fragment, a
//! backslash or a dot segment is refused, so that no two readers see two different addresses.

use std::{future::Future, pin::Pin, time::Duration};

use bytes::Bytes;
use weft_kernel::{Error, Reason, Result, Rng};
use weft_net::Stop;
use weft_wire::Fields;

use super::{
    CALLBACK,
    record::{Head, Id, kept_fields},
};
use crate::{handle::Handle, target::RespondAsync};

/// The most tries, with waits of 1 s that double.
const TRIES: u32 = 8;

/// Posts to an address outside Weft.
pub trait Outside: Send + Sync {
    /// Posts a body and answers the status that came back.
    ///
    /// # Errors
    /// If none came.
    fn post<'a>(
        &'a self,
        url: &'a str,
        fields: Fields,
        body: Bytes,
    ) -> Pin<Box<dyn Future<Output = Result<u16>> + Send + 'a>>;
}

/// Where a request wants its answer to be told, if that is allowed.
///
/// # Errors
/// [`Reason::MalformedRequest`] if it is not.
pub(super) fn of(fields: &Fields, how: &RespondAsync) -> Result<Option<String>> {
    let Some(value) = fields.named(CALLBACK) else { return Ok(None) };
    let refused =
        || Error::new(Reason::MalformedRequest, "Weft-Callback: this address is not allowed here");
    let url = std::str::from_utf8(value).map_err(|error| refused().because(error))?.trim();
    if url.len() <= 2048 && how.callbacks.iter().any(|prefix| is_below(url, prefix)) {
        return Ok(Some(url.to_owned()));
    }
    Err(refused())
}

/// Scheme and authority, and the path with its query.
fn split(url: &str) -> Option<(&str, &str)> {
    let after = url.find("://")? + 3;
    let path = url[after..].find(['/', '?', '#']).map_or(url.len(), |at| after + at);
    Some((&url[..path], &url[path..]))
}

/// Whether any callback can be below a prefix: an `http` or `https` URL with a host, and without what no URL
/// has.
pub fn is_callback_prefix(prefix: &str) -> bool {
    let is_http = |origin: &str| {
        let (scheme, host) = origin.split_once("://").unwrap_or_default();
        (scheme.eq_ignore_ascii_case("https") || scheme.eq_ignore_ascii_case("http"))
            && !host.is_empty()
    };
    split(prefix).is_some_and(|(origin, path)| {
        is_http(origin) && !path.contains(['?', '#']) && is_below(prefix, prefix)
    })
}

fn is_below(url: &str, prefix: &str) -> bool {
    let (Some((origin, path)), Some((allowed, below))) = (split(url), split(prefix)) else {
        return false;
    };
    let plain = url.bytes().all(|byte| byte.is_ascii_graphic() && !b"\\#\"<>`{}|^".contains(&byte));
    let bare = path.split('?').next().unwrap_or_default();
    let dotted = bare.split('/').any(|segment| {
        let segment = segment.to_ascii_lowercase().replace("%2e", ".");
        segment == "." || segment == ".."
    });
    let under = match below.trim_end_matches('/') {
        "" => true,
        below => {
            bare.strip_prefix(below).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        }
    };
    plain && !origin.contains('@') && origin.eq_ignore_ascii_case(allowed) && !dotted && under
}

/// Tells the outcome of an operation, if somebody wants to be told and was not.
///
/// # Errors
/// What the store says.
pub(super) async fn tell(handle: &Handle, stop: &Stop, id: Id, head: &Head) -> Result<()> {
    let (Some(url), Some(outside), Some(outcome)) =
        (&head.callback, handle.outside(), &head.outcome)
    else {
        return Ok(());
    };
    let (false, Some(status)) = (outcome.told, outcome.status) else { return Ok(()) };
    let deferred = handle.deferred();
    let body = deferred
        .body(deferred.head(id).await?.outcome.unwrap_or_else(|| outcome.clone()).body)
        .await?;
    let mut rng = Rng::from_entropy();
    for attempt in 0..TRIES {
        let mut fields = Fields::new();
        for (name, value) in kept_fields(&outcome.fields).iter() {
            if name == "content-type" || name == "content-encoding" {
                fields.append(name, value);
            }
        }
        fields.append("weft-operation", id.to_string().as_bytes());
        fields.append("weft-status", status.to_string().as_bytes());
        match outside.post(url, fields, body.clone()).await {
            Ok(200..300) => return deferred.told(id).await,
            // It is there and wants none of it.
            Ok(answer @ 400..500) if answer != 408 && answer != 429 => {
                tracing::warn!(%id, answer, "the callback of an operation refused its result");
                return deferred.told(id).await;
            }
            Ok(_) | Err(_) => {}
        }
        let wait = rng.around(Duration::from_secs(1 << attempt), 0.2);
        if tokio::time::timeout(wait, stop.draining()).await.is_ok() {
            return Ok(());
        }
    }
    tracing::warn!(%id, "the callback of an operation could not be told its result");
    deferred.told(id).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_is_one_that_some_callback_is_below() {
        for good in
            ["https://example.com", "HTTP://example.com:8080/", "https://example.com/hooks/in"]
        {
            assert!(is_callback_prefix(good), "{good}");
        }
        let bad =
            ["", "ftp://x", "nonsense", "http://", "https:///a", "https://a/../b", "https://u@a"];
        for bad in
            bad.into_iter().chain(["https://a/b?c=d", "https://a/#b", "https://a/b c", "/hooks"])
        {
            assert!(!is_callback_prefix(bad), "{bad}");
        }
    }

    #[test]
    fn only_what_is_below_an_allowed_prefix_is_told() {
        let allowed = "https://hooks.example.com/in";
        for (url, allowed_here) in [
            ("https://hooks.example.com/in", true),
            ("https://hooks.example.com/in/7?x=1", true),
            ("HTTPS://Hooks.Example.com/in/7", true),
            ("https://hooks.example.com/inside", false),
            ("https://hooks.example.com/", false),
            ("https://hooks.example.com.evil.net/in", false),
            ("https://hooks.example.com@evil.net/in", false),
            ("https://u:p@hooks.example.com/in", false),
            ("https://hooks.example.com:8443/in", false),
            ("http://hooks.example.com/in", false),
            ("https://hooks.example.com/in/../admin", false),
            ("https://hooks.example.com/in/%2e%2E/admin", false),
            ("https://hooks.example.com\\@evil.net/in", false),
            ("https://hooks.example.com/in/a b", false),
            ("https://hooks.example.com/in#x", false),
            ("hooks.example.com/in", false),
            ("", false),
        ] {
            assert_eq!(is_below(url, allowed), allowed_here, "{url}");
        }
        assert!(is_below("https://a.example/x", "https://a.example/"));
        assert!(is_below("https://a.example/x", "https://a.example"));
        assert!(!is_below("https://a.example.net/x", "https://a.example"));
    }
}
