//! What authentication would make of a request that nobody sends: who it comes from, without an issuer being asked.

use weft_kernel::Reason;
use weft_net::clock;
use weft_proxy::{DryRun, Foreseen, PolicyOutcome};

use weft_wire::Known;

use super::{
    Guard,
    bearer::Moment,
    shown::{Good, Shown, Signed},
};
use crate::{cors::is_preflight, signature::Message};

impl Guard {
    /// What it would decide, leaving for those behind who the request comes from.
    pub(super) fn foreseen(&self, cx: &mut DryRun<'_>) -> Foreseen {
        let generation = self.shared.generation.number();
        let roster = self.shared.roster.load();
        let at = Moment { now: clock::now(), wall: clock::wall(), may_wait: false };
        let view = cx.view();
        let is_preflight = self.settings.preflight && is_preflight(view.head());
        let head = view.head();
        if let Some((login, own)) = self.settings.own(&roster, head.path()) {
            return Foreseen::of(
                own.foreseen(&head.method),
                format!("login `{}` answers on this path", login.options().name),
            );
        }
        let message = Message {
            head,
            target: &head.target,
            host: head.fields.get_str(Known::Host).unwrap_or_default(),
            is_secure: view.is_secure(),
            has_body: head.fields.has(Known::ContentLength),
        };
        let shown = self.judge((&roster, generation), (&message, view.certificate()), at);
        if let Some(login) = self.settings.begins(&shown, &roster, head) {
            let says = format!("login `{}` sends a browser to its provider", login.options().name);
            return Foreseen::of(PolicyOutcome::Answers(303), says);
        }
        let refused = |why| Foreseen::of(PolicyOutcome::Refuses(Reason::Unauthenticated), why);
        match shown.parted().0 {
            Shown::By(Good { consumer, token, signed, .. }) => {
                let mut who = match (&consumer, &token) {
                    (Some(consumer), _) => format!("it comes from consumer `{}`", consumer.name()),
                    (None, Some(token)) => {
                        format!(
                            "its token is one of issuer `{}`, and leads to no consumer",
                            token.issuer()
                        )
                    }
                    (None, None) => String::new(),
                };
                let after = match signed.as_deref() {
                    Some(Signed { nonce: Some(_), .. }) => "; its nonce would have to be a new one",
                    Some(Signed { content: Some(_), .. }) => {
                        "; its body would have to be the one that is signed"
                    }
                    _ => "",
                };
                who.push_str(after);
                token.into_iter().for_each(|token| cx.leave(token));
                consumer.into_iter().for_each(|consumer| cx.leave(consumer));
                Foreseen::of(PolicyOutcome::Passes, who)
            }
            Shown::Nothing if is_preflight => Foreseen::new(
                PolicyOutcome::Passes,
                "it is a preflight, which needs no credentials",
            ),
            Shown::Nothing => {
                let anonymous = self.settings.anonymous.as_ref();
                match anonymous.and_then(|name| roster.consumers.anonymous(name.as_str())) {
                    Some(consumer) => {
                        let who =
                            format!("it shows no credentials, and is of `{}`", consumer.name());
                        cx.leave(consumer);
                        Foreseen::of(PolicyOutcome::Passes, who)
                    }
                    None => refused("no credentials are shown".into()),
                }
            }
            Shown::Wrong(wrong) => refused(wrong.why),
            Shown::Lacks => Foreseen::new(
                PolicyOutcome::Refuses(Reason::InsufficientScope),
                "the token lacks a scope or a claim that is needed here",
            ),
            Shown::Closed | Shown::Later(_) | Shown::Renewed(_) => {
                Foreseen::new(PolicyOutcome::Asks, "the issuer of the token would be asked")
            }
        }
    }
}
