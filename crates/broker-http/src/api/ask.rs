//! A request on its way through an operation.

use std::{borrow::Cow, sync::Arc};

use serde::Serialize;
use serde_json::json;
use weft_broker::{Key, MessageSource, Queue, Subscription, Topic};
use weft_kernel::{Error, Reason, Result};

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
        Err(Error::new(
            Reason::DefinitionConflict,
            format!(
                "{what} is there with other options: {differences}; `?change=true` changes them"
            ),
        ))
    }

    /// The topic of the path.
    pub(super) fn topic(&self, query: &mut Query<'a>) -> Result<Arc<Topic>> {
        self.handle.broker().topic(&self.key(query)?)
    }

    /// The queue of the path.
    pub(super) fn queue(&self, query: &mut Query<'a>) -> Result<Arc<Queue>> {
        self.handle.broker().queue(&self.key(query)?)
    }

    /// The subscription of the path.
    pub(super) fn subscription(&self, query: &mut Query<'a>) -> Result<Arc<Subscription>> {
        self.handle.broker().subscription_named(&self.key(query)?)
    }

    /// What the path consumes from: a queue or a subscription.
    pub(super) fn source(&self, query: &mut Query<'a>) -> Result<MessageSource> {
        if self.request.path.starts_with("/v1/queues/") {
            Ok(MessageSource::Queue(self.queue(query)?))
        } else {
            Ok(MessageSource::Subscription(self.subscription(query)?))
        }
    }
}

/// Answers with what lies in the space that the query names, as the list `member`.
pub(super) fn list<T, V: Serialize>(
    ask: &Ask<'_>,
    member: &str,
    all: impl IntoIterator<Item = T>,
    space_of: impl Fn(&T) -> &str,
    view: impl Fn(&T) -> V,
) -> Result<Response> {
    let mut query = ask.query()?;
    let space = space(&mut query)?;
    let views: Vec<V> =
        all.into_iter().filter(|one| space_of(one) == space).map(|one| view(&one)).collect();
    Response::json(200, &json!({ member: views }))
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
