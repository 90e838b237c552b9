//! Schemas by their ids, and what formats there are.

use weft_kernel::Result;
use weft_schemas::{Deleted, Format, Which};

use super::{
    Ask, MEDIA, answer, deleted, id, is_set, page, told,
    view::{SchemaView, UseView},
};
use crate::response::Response;

/// The most schemas of a list.
const LISTED_MAX: usize = 1_000;

/// `GET /`
pub(super) async fn root(_ask: Ask<'_>) -> Result<Response> {
    answer(&serde_json::Map::new())
}

/// `GET /contexts`
pub(super) async fn contexts(_ask: Ask<'_>) -> Result<Response> {
    answer(&["."])
}

/// `GET /schemas/types`
pub(super) async fn types(_ask: Ask<'_>) -> Result<Response> {
    answer(&Format::ALL.map(Format::word))
}

/// `GET /schemas/ids/{id}`
pub(super) async fn show(ask: Ask<'_>) -> Result<Response> {
    let form = ask.query()?.take("format");
    let found = async {
        let id = id(&ask)?;
        let mut view = SchemaView::of(ask.state.schema(id).await?);
        if form.is_some() {
            view = view.formed(form.as_deref(), &*ask.state.read(id).await?)?;
        }
        Ok(answer(&view)?)
    };
    told(found.await)
}

/// `GET /schemas/ids/{id}/schema`
pub(super) async fn text(ask: Ask<'_>) -> Result<Response> {
    let found = async { Ok(Response::of(200, MEDIA, ask.state.schema(id(&ask)?).await?.text)) };
    told(found.await)
}

/// `GET /schemas/ids/{id}/subjects`
pub(super) async fn subjects(ask: Ask<'_>) -> Result<Response> {
    let mut query = ask.query()?;
    let shown = deleted(&mut query);
    let found = async {
        let uses = ask.state.uses(id(&ask)?, shown).await?;
        let mut all: Vec<String> = uses.into_iter().map(|(subject, _)| subject).collect();
        all.dedup();
        Ok(answer(&page(all, &mut query))?)
    };
    told(found.await)
}

/// `GET /schemas/ids/{id}/versions`
pub(super) async fn versions(ask: Ask<'_>) -> Result<Response> {
    let mut query = ask.query()?;
    let (shown, only) = (deleted(&mut query), query.take("subject"));
    let found = async {
        let uses = ask.state.uses(id(&ask)?, shown).await?;
        let all = uses.into_iter().map(|(subject, version)| UseView { subject, version });
        let all = all.filter(|one| only.as_ref().is_none_or(|only| *only == one.subject));
        Ok(answer(&page(all.collect(), &mut query))?)
    };
    told(found.await)
}

/// `GET /schemas`
pub(super) async fn list(ask: Ask<'_>) -> Result<Response> {
    let mut query = ask.query()?;
    let prefix = query.take("subjectPrefix").unwrap_or_default();
    let (shown, latest) = (deleted(&mut query), is_set(&mut query, "latestOnly"));
    let found = async {
        let mut all = Vec::new();
        for subject in ask.state.subjects(&prefix, shown).await? {
            let versions = match latest {
                true => vec![Which::Latest],
                false => {
                    let all = ask.state.versions(&subject, shown).await?;
                    all.into_iter().map(Which::Number).collect()
                }
            };
            all.extend(versions.into_iter().map(|which| (subject.clone(), which)));
        }
        let mut shown = Vec::new();
        for (subject, which) in page(all, &mut query).into_iter().take(LISTED_MAX) {
            let found = ask.state.version(&subject, which, Deleted::Shown).await?;
            shown.push(SchemaView::registered(found));
        }
        Ok(answer(&shown)?)
    };
    told(found.await)
}
