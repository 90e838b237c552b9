//! Signatures of requests as credentials (RFC 9421).

use std::time::SystemTime;

use weft_kernel::{Error, Reason};
use weft_net::clock;
use weft_proxy::RequestContext;

use super::{
    bearer::Moment,
    refusal,
    shown::{Good, Shown, Signed},
};
use crate::{
    roster::Roster,
    signature::{self, Message, Nonces, Signature, Used},
};

impl Signature {
    pub(super) fn look(&self, roster: &Roster, message: &Message<'_>, at: Moment) -> Shown {
        let key = |id: &str| roster.signature_keys.get(id);
        match signature::verify(self, key, message, at.wall) {
            Ok(None) => Shown::Nothing,
            Ok(Some(verified)) => {
                let Some(consumer) = roster.consumers.named(verified.key.consumer.as_str()) else {
                    return "the consumer of the key of the signature is gone".into();
                };
                let content = verified.content.map(|content| (content, self.body_bytes_max));
                let nonce = verified.nonce;
                let more = content.is_some() || nonce.is_some();
                let signed = more.then(|| Box::new(Signed { content, nonce }));
                Shown::By(Good { consumer: Some(consumer), signed, ..Good::default() })
            }
            Err(why) => why.into(),
        }
    }

    /// What a client is told that a signature must cover, as `Accept-Signature` has it.
    pub(super) fn asked(&self) -> String {
        let mut components: Vec<String> =
            self.components.iter().map(|component| format!("\"{component}\"")).collect();
        if self.content_digest && !self.components.iter().any(|it| **it == *"content-digest") {
            components.push("\"content-digest\"".to_owned());
        }
        let label = self.label.as_deref().unwrap_or("sig");
        let nonce = if self.nonce { ";nonce" } else { "" };
        let tag = self.tag.as_ref().map(|tag| format!(";tag=\"{tag}\"")).unwrap_or_default();
        format!("{label}=({});created;keyid{nonce}{tag}", components.join(" "))
    }
}

impl Signed {
    /// Holds a request to it.
    pub(super) async fn hold(
        self,
        nonces: &Nonces,
        cx: &mut RequestContext<'_>,
    ) -> Result<(), Error> {
        if let Some(nonce) = &self.nonce {
            let now = clock::wall().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
            match nonces.spend(nonce, i64::try_from(now.as_secs()).unwrap_or(i64::MAX)) {
                Used::Now => {}
                Used::Before => return Err(refusal("the signature was shown before".into())),
                Used::Unknown => {
                    let say = "too many signatures of the key are remembered to take another";
                    return Err(Error::new(Reason::RateLimited, say));
                }
            }
        }
        if let Some((content, bytes_max)) = &self.content {
            let body = cx.read_body(*bytes_max).await?;
            if !content.is(&body) {
                return Err(refusal("the body is not the one whose digest was signed".into()));
            }
        }
        Ok(())
    }
}
