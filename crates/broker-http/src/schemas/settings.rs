//! Level of compatibility and mode, of all subjects and of one.

use serde::Deserialize;
use serde_json::{Map, Value, json};
use weft_kernel::Result;
use weft_schemas::{Mode, SubjectSettings, error};

use super::{Ask, answer, is_set, told};
use crate::response::Response;

/// What a body sets.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct ConfigBody {
    compatibility: Option<String>,
    #[serde(rename = "compatibilityLevel")]
    level: Option<String>,
    normalize: Option<bool>,
    #[serde(rename = "compatibilityPolicy")]
    policy: Option<String>,
}

#[derive(Debug, Deserialize)]
struct ModeBody {
    mode: String,
}

/// The subject of the path; none for what counts for all.
fn subject<'a>(ask: &'a Ask<'_>) -> Option<&'a str> {
    Some(ask.names.at(0)).filter(|subject| !subject.is_empty())
}

fn malformed(error: &serde_json::Error) -> error::Error {
    error::Error::Malformed(format!("the body cannot be read: {error}"))
}

/// Settings as they are shown, the level under a name.
fn shown(settings: &SubjectSettings, level: &str) -> Value {
    let mut all = Map::new();
    if let Some(of) = settings.level {
        all.insert(level.to_owned(), json!(of.word()));
    }
    if let Some(normalize) = settings.normalize {
        all.insert("normalize".to_owned(), json!(normalize));
    }
    if let Some(lenient) = settings.lenient {
        let word = if lenient { "LENIENT" } else { "STRICT" };
        all.insert("compatibilityPolicy".to_owned(), json!(word));
    }
    Value::Object(all)
}

/// `GET /config` and `GET /config/{subject}`
pub(super) async fn config(ask: Ask<'_>) -> Result<Response> {
    let falls_back = is_set(&mut ask.query()?, "defaultToGlobal");
    let found = async {
        let mut settings = ask.state.settings(subject(&ask)).await?;
        match subject(&ask) {
            None => settings.level = Some(settings.level.unwrap_or_default()),
            Some(subject) if falls_back => {
                settings = ask.state.in_force(subject).await?;
                settings.level = Some(settings.level.unwrap_or_default());
            }
            Some(subject)
                if SubjectSettings { mode: None, ..settings } == SubjectSettings::default() =>
            {
                return Err(error::Error::NoConfig(subject.to_owned()));
            }
            Some(_) => {}
        }
        Ok(answer(&shown(&settings, "compatibilityLevel"))?)
    };
    told(found.await)
}

/// `PUT /config` and `PUT /config/{subject}`
pub(super) async fn set_config(ask: Ask<'_>) -> Result<Response> {
    let done = async {
        let body: ConfigBody =
            serde_json::from_slice(&ask.request.body).map_err(|error| malformed(&error))?;
        let level = body.compatibility.or(body.level).map(|word| word.parse()).transpose()?;
        let lenient = match body.policy.as_deref().map(str::to_ascii_uppercase).as_deref() {
            None => None,
            Some("LENIENT") => Some(true),
            Some("STRICT") => Some(false),
            Some(_) => return Err(error::Error::InvalidLevel),
        };
        let asked = SubjectSettings { level, normalize: body.normalize, lenient, mode: None };
        if asked == SubjectSettings::default() {
            return Err(error::Error::InvalidLevel);
        }
        ask.state.set(subject(&ask), asked).await?;
        Ok(answer(&shown(&asked, "compatibility"))?)
    };
    told(done.await)
}

/// `DELETE /config` and `DELETE /config/{subject}`
pub(super) async fn unset_config(ask: Ask<'_>) -> Result<Response> {
    let done = async {
        let was = ask.state.unset_level(subject(&ask)).await?;
        Ok(answer(&shown(&was, "compatibilityLevel"))?)
    };
    told(done.await)
}

fn mode_of(mode: Mode) -> Value {
    json!({ "mode": mode.word() })
}

/// `GET /mode` and `GET /mode/{subject}`
pub(super) async fn mode(ask: Ask<'_>) -> Result<Response> {
    let falls_back = is_set(&mut ask.query()?, "defaultToGlobal");
    let found = async {
        let own = ask.state.settings(subject(&ask)).await?.mode;
        let mode = match (subject(&ask), own) {
            (_, Some(mode)) => mode,
            (None, None) => Mode::default(),
            (Some(subject), None) if falls_back => {
                ask.state.in_force(subject).await?.mode.unwrap_or_default()
            }
            (Some(subject), None) => return Err(error::Error::NoMode(subject.to_owned())),
        };
        Ok(answer(&mode_of(mode))?)
    };
    told(found.await)
}

/// `PUT /mode` and `PUT /mode/{subject}`
pub(super) async fn set_mode(ask: Ask<'_>) -> Result<Response> {
    let done = async {
        let body: ModeBody =
            serde_json::from_slice(&ask.request.body).map_err(|error| malformed(&error))?;
        let mode: Mode = body.mode.parse()?;
        let asked = SubjectSettings { mode: Some(mode), ..SubjectSettings::default() };
        ask.state.set(subject(&ask), asked).await?;
        Ok(answer(&mode_of(mode))?)
    };
    told(done.await)
}

/// `DELETE /mode/{subject}`
pub(super) async fn unset_mode(ask: Ask<'_>) -> Result<Response> {
    told(async { Ok(answer(&mode_of(ask.state.unset_mode(ask.names.at(0)).await?))?) }.await)
}
