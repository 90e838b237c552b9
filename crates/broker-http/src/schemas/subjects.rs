//! Subjects and versions: listing, registering, looking up, checking, deleting.

use weft_kernel::Result;
use weft_schemas::{Deleted, error};

use super::{
    Ask, MEDIA, SchemaBody, answer, deleted, is_set, page, told,
    view::{FitView, IdView, SchemaView, SubjectView},
    which,
};
use crate::response::Response;

/// `GET /subjects`
pub(super) async fn list(ask: Ask<'_>) -> Result<Response> {
    let mut query = ask.query()?;
    let prefix = query.take("subjectPrefix").unwrap_or_default();
    // Some ask for the default context by its name.
    let prefix = prefix.trim_start_matches(":.:").trim_start_matches(":*:");
    let shown = deleted(&mut query);
    told(async { Ok(answer(&page(ask.state.subjects(prefix, shown).await?, &mut query))?) }.await)
}

/// `GET /subjects/{subject}`
pub(super) async fn show(ask: Ask<'_>) -> Result<Response> {
    let subject = ask.names.at(0);
    let shown = async {
        let versions = ask.state.versions(subject, Deleted::Hidden).await?;
        let settings = ask.state.in_force(subject).await?;
        let latest = ask.state.version(subject, weft_schemas::Which::Latest, Deleted::Hidden);
        let latest = latest.await?.schema;
        Ok(answer(&SubjectView {
            subject: subject.to_owned(),
            versions,
            id: latest.id,
            format: latest.format.word(),
            compatibility: settings.level.unwrap_or_default().word(),
            mode: settings.mode.unwrap_or_default().word(),
        })?)
    };
    told(shown.await)
}

/// `GET /subjects/{subject}/versions`
pub(super) async fn versions(ask: Ask<'_>) -> Result<Response> {
    let mut query = ask.query()?;
    let shown = deleted(&mut query);
    let subject = ask.names.at(0);
    told(async { Ok(answer(&page(ask.state.versions(subject, shown).await?, &mut query))?) }.await)
}

/// `POST /subjects/{subject}/versions`
pub(super) async fn register(ask: Ask<'_>) -> Result<Response> {
    let normalize = is_set(&mut ask.query()?, "normalize");
    let registered = async {
        let draft = SchemaBody::read(&ask.request.body)?.draft(normalize)?;
        let done = ask.state.register(ask.names.at(0), &draft).await?;
        let (subject, version) = (done.subject, done.version);
        Ok(answer(&IdView { id: done.schema.id, version, subject })?)
    };
    told(registered.await)
}

/// `POST /subjects/{subject}`
pub(super) async fn lookup(ask: Ask<'_>) -> Result<Response> {
    let mut query = ask.query()?;
    let normalize = is_set(&mut query, "normalize");
    let (shown, form) = (deleted(&mut query), query.take("format"));
    let found = async {
        let draft = SchemaBody::read(&ask.request.body)?.draft(normalize)?;
        let found = ask.state.lookup(ask.names.at(0), &draft, shown).await?;
        formed(&ask, found, form.as_deref()).await
    };
    told(found.await)
}

/// `GET /subjects/{subject}/versions/{version}`
pub(super) async fn version(ask: Ask<'_>) -> Result<Response> {
    let mut query = ask.query()?;
    let (shown, form) = (deleted(&mut query), query.take("format"));
    let found = async {
        let found = ask.state.version(ask.names.at(0), which(&ask)?, shown).await?;
        formed(&ask, found, form.as_deref()).await
    };
    told(found.await)
}

/// A version, its text in the form that was asked for.
async fn formed(
    ask: &Ask<'_>,
    found: weft_schemas::Registered,
    form: Option<&str>,
) -> error::Result<Response> {
    let id = found.schema.id;
    let mut view = SchemaView::registered(found);
    if form.is_some() {
        view = view.formed(form, &*ask.state.read(id).await?)?;
    }
    Ok(answer(&view)?)
}

/// `GET /subjects/{subject}/versions/{version}/schema`
pub(super) async fn text(ask: Ask<'_>) -> Result<Response> {
    let shown = deleted(&mut ask.query()?);
    let found = async {
        let found = ask.state.version(ask.names.at(0), which(&ask)?, shown).await?;
        Ok(Response::of(200, MEDIA, found.schema.text))
    };
    told(found.await)
}

/// `GET /subjects/{subject}/versions/{version}/referencedby`
pub(super) async fn referrers(ask: Ask<'_>) -> Result<Response> {
    let mut query = ask.query()?;
    let found = async {
        let ids = ask.state.referrers(ask.names.at(0), which(&ask)?).await?;
        Ok(answer(&page(ids, &mut query))?)
    };
    told(found.await)
}

/// `DELETE /subjects/{subject}`
pub(super) async fn delete(ask: Ask<'_>) -> Result<Response> {
    let for_good = is_set(&mut ask.query()?, "permanent");
    let gone = async { Ok(answer(&ask.state.delete_subject(ask.names.at(0), for_good).await?)?) };
    told(gone.await)
}

/// `DELETE /subjects/{subject}/versions/{version}`
pub(super) async fn delete_version(ask: Ask<'_>) -> Result<Response> {
    let for_good = is_set(&mut ask.query()?, "permanent");
    let gone = async {
        let gone = ask.state.delete_version(ask.names.at(0), which(&ask)?, for_good).await?;
        Ok(answer(&gone)?)
    };
    told(gone.await)
}

/// `POST /compatibility/subjects/{subject}/versions`
pub(super) async fn check_all(ask: Ask<'_>) -> Result<Response> {
    told(fits(&ask, None).await)
}

/// `POST /compatibility/subjects/{subject}/versions/{version}`
pub(super) async fn check(ask: Ask<'_>) -> Result<Response> {
    let outcome = async { fits(&ask, Some(which(&ask)?)).await };
    told(outcome.await)
}

async fn fits(ask: &Ask<'_>, which: Option<weft_schemas::Which>) -> error::Result<Response> {
    let mut query = ask.query()?;
    let (normalize, verbose) = (is_set(&mut query, "normalize"), is_set(&mut query, "verbose"));
    let draft = SchemaBody::read(&ask.request.body)?.draft(normalize)?;
    let messages = ask.state.check(ask.names.at(0), which, &draft).await?;
    let is_compatible = messages.is_empty();
    Ok(answer(&FitView { is_compatible, messages: verbose.then_some(messages) })?)
}
