//! A request on its way through an operation.

use std::borrow::Cow;

use futures_util::{StreamExt, TryStreamExt, stream};
use serde::Serialize;
use serde_json::json;
use weft_broker::{
    Key,
    engine::{AnyQueue, AnySource, AnySubscription, AnyTopic},
};
use weft_kernel::{Code, Error, Reason, Result};

use crate::{
    body,
    handle::{Handle, is_declared},
    query::Query,
    request::Request,
    response::Response,
    schema::text,
    settings,
};
use weft_api::{Body, Names};

/// How many things are asked for their numbers at a time.
const ASKED_AT_ONCE: usize = 16;

/// A request, the names in its path, and the front-end that it is asked at.
pub(crate) struct Ask<'a> {
    /// Handle of the front-end.
    pub(crate) handle: &'a Handle,
    /// The names in the path.
    pub(crate) names: Names<'a>,
    /// The request.
    pub(crate) request: &'a Request,
}

impl<'a> From<weft_api::Ask<'a, Handle>> for Ask<'a> {
    fn from(ask: weft_api::Ask<'a, Handle>) -> Self {
        Self { handle: ask.state, names: ask.names, request: ask.request }
    }
}

impl<'a> Ask<'a> {
    /// The body.
    pub(super) fn body<T: Body>(&self) -> Result<T> {
        body::read(&self.request.body)
    }

    /// The query, of which parameters are taken out.
    pub(super) fn query(&self) -> Result<Query<'a>> {
        Query::parse(&self.request.query)
    }

    /// The first name of the path, in the space that the query names.
    pub(super) fn key(&self, query: &mut Query<'a>) -> Result<Key> {
        Key::new(&space(query)?, self.names.at(0))
    }

    /// Refuses to change what is declared by the configuration, or what nobody asked to change; the
    /// error names each setting with both of its values.
    pub(super) fn may_change<T: Serialize>(
        &self,
        what: &str,
        is_configured: bool,
        change: bool,
        is: &T,
        asked: &T,
    ) -> Result<()> {
        if is_configured {
            return Err(is_declared(what));
        }
        if change {
            return Ok(());
        }
        let differences = settings::differences(is, asked);
        // No message goes from one engine to another, and so no change of options does that.
        let how = match differences.contains("`engine` is ") {
            true => "what another engine is to keep is deleted first",
            false => "`?change=true` changes them",
        };
        Err(Error::new(
            Reason::DefinitionConflict,
            format!("{what} is there with other options: {differences}; {how}"),
        ))
    }

    /// The topic of the path.
    pub(super) fn topic(&self, query: &mut Query<'a>) -> Result<AnyTopic> {
        self.handle.engines().topic(&self.key(query)?)
    }

    /// The queue of the path.
    pub(super) fn queue(&self, query: &mut Query<'a>) -> Result<AnyQueue> {
        self.handle.engines().queue(&self.key(query)?)
    }

    /// The subscription of the path.
    pub(super) fn subscription(&self, query: &mut Query<'a>) -> Result<AnySubscription> {
        self.handle.engines().subscription_named(&self.key(query)?)
    }

    /// What the path consumes from: a queue or a subscription.
    pub(super) fn source(&self, query: &mut Query<'a>) -> Result<AnySource> {
        if self.request.path.starts_with("/v1/queues/") {
            Ok(self.queue(query)?.into())
        } else {
            Ok(self.subscription(query)?.into())
        }
    }
}

/// Answers with what lies in the space that the query names, as the list `member`; what is gone by the time
/// it is looked at is left out.
pub(super) async fn list<T, V: Serialize, F>(
    ask: &Ask<'_>,
    member: &str,
    all: Vec<T>,
    space_of: impl Fn(&T) -> &str,
    view: impl Fn(T) -> F,
) -> Result<Response>
where
    F: Future<Output = Result<Option<V>>>,
{
    let mut query = ask.query()?;
    let space = space(&mut query)?;
    let here = all.into_iter().filter(|one| space_of(one) == space);
    let views: Vec<Option<V>> =
        stream::iter(here).map(view).buffered(ASKED_AT_ONCE).try_collect().await?;
    let views: Vec<V> = views.into_iter().flatten().collect();
    Response::json(200, &json!({ member: views }))
}

/// The numbers of one of many things: none of what is gone, and the plainest with the cause of an engine
/// that is away, which must not hide what the others have.
pub(super) fn numbers<S: Default>(told: Result<S>) -> Result<Option<(S, Option<String>)>> {
    match told {
        Ok(numbers) => Ok(Some((numbers, None))),
        Err(error) if error.reason() == Reason::EngineUnavailable => {
            Ok(Some((S::default(), Some(error.said().to_owned()))))
        }
        Err(error) if error.code() == Code::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Whether a query asks to change what is there.
pub(super) fn change(query: &mut Query<'_>) -> Result<bool> {
    match query.take("change").as_deref() {
        None | Some("false") => Ok(false),
        Some("true") => Ok(true),
        Some(_) => Err(Error::new(Reason::MalformedRequest, "`change` is true or false")),
    }
}

/// The space that a query names: the default one, or an AMQP virtual host.
pub(super) fn space<'a>(query: &mut Query<'a>) -> Result<Cow<'a, str>> {
    let space = query.take("space").unwrap_or_default();
    // As AMQP calls the one that has no name here.
    if space == "/" {
        return Ok(Cow::Borrowed(""));
    }
    if (text::SPACE.fits)(&space) {
        return Ok(space);
    }
    Err(Error::new(Reason::MalformedRequest, format!("`space` is {}", text::SPACE.what)))
}
