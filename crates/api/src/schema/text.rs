//! Kinds of texts: what is published of each, and how it is checked.

use weft_kernel::{Name, parse_share};
use weft_wire::path;

use crate::time;

/// A kind of text.
#[derive(Debug)]
pub struct Kind {
    /// What it is called in a word or two.
    pub word: &'static str,
    /// What a text of it is, behind `is`.
    pub what: &'static str,
    /// The pattern that is published, without its anchors; empty for any text.
    pub pattern: &'static str,
    /// The name of its grammar, where that is beyond a pattern.
    pub format: Option<&'static str>,
    /// Whether a text is one.
    pub fits: fn(&str) -> bool,
}

/// A character that is no control character.
macro_rules! plain {
    () => {
        r"[^\x00-\x1f\x7f-\x9f]"
    };
}

/// A day and a time with an offset, in years before 9000.
macro_rules! moment {
    () => {
        concat!(
            r"([0-8][0-9]{3}-((0[13578]|1[02])-(0[1-9]|[12][0-9]|3[01])",
            r"|(0[469]|11)-(0[1-9]|[12][0-9]|30)|02-(0[1-9]|1[0-9]|2[0-8]))",
            r"|([0-8][0-9](0[48]|[2468][048]|[13579][26])|([02468][048]|[1357][26])00)-02-29)",
            r"T([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\.[0-9]{1,9})?",
            r"(Z|[+-]([01][0-9]|2[0-3]):[0-5][0-9])"
        )
    };
}

/// A name.
pub const NAME: Kind = Kind {
    word: "name",
    what: "a name: 1 to 255 bytes without control characters",
    pattern: concat!("([ -~]{1,255}|", plain!(), "{1,63})"),
    format: None,
    fits: |text| (1..=255).contains(&text.len()) && is_plain(text),
};

/// An engine.
pub const ENGINE: Kind = Kind {
    word: "engine",
    what: "the name of an engine: 1 to 255 bytes without control characters",
    ..NAME
};

/// A topic, or a pattern of topics.
pub const TOPICS: Kind = Kind {
    word: "name, or a pattern",
    what: "the name of a topic, or a pattern such as orders.* or orders.>",
    pattern: concat!(
        r"([^\x00-\x1f\x7f-\x9f*>]{1,63}|",
        r"((\*|[^\x00-\x1f\x7f-\x9f.*>]{1,12})\.){0,3}(\*|>|[^\x00-\x1f\x7f-\x9f.*>]{1,12}))"
    ),
    format: None,
    fits: |text| (1..=255).contains(&text.len()) && is_plain(text),
};

/// The name of a space; empty for the default one.
pub const SPACE: Kind = Kind {
    word: "name",
    what: "the name of a space: at most 255 bytes without control characters",
    pattern: concat!("([ -~]{0,255}|", plain!(), "{0,63})"),
    format: None,
    fits: |text| text.len() <= 255 && is_plain(text),
};

/// Any text.
pub const ANY: Kind =
    Kind { word: "text", what: "a text", pattern: "", format: None, fits: |_| true };

/// The key of a message.
pub const KEY: Kind = Kind {
    word: "text",
    what: "a text of at most 1024 bytes",
    pattern: r"[\s\S]{0,256}",
    format: None,
    fits: |text| text.len() <= 1024,
};

/// The reason that a client gives.
pub const REASON: Kind = KEY;

/// The type of an event.
pub const EVENT_TYPE: Kind = Kind {
    word: "text",
    what: "the type of an event: a text that is not empty, without control characters",
    pattern: "[ -~]{1,255}",
    format: None,
    fits: |text| !text.is_empty() && is_plain(text),
};

/// Types of events, with commas between them.
pub const EVENT_TYPES: Kind = Kind {
    word: "types",
    what: "1 to 32 types of events, with commas between them",
    pattern: "[!-+.-~-]{1,64}(,[!-+.-~-]{1,64}){0,7}",
    format: None,
    fits: |text| {
        text.split(',').count() <= 32 && text.split(',').all(|one| (EVENT_TYPE.fits)(one.trim()))
    },
};

/// A tag of an event.
pub const TAG: Kind = Kind {
    word: "tag",
    what: "a tag: 1 to 64 bytes without commas, control characters, or spaces around it",
    pattern: "[!-+.-~-]{1,64}",
    format: None,
    fits: |text| {
        (1..=64).contains(&text.len())
            && is_plain(text)
            && !text.contains(',')
            && text.trim().len() == text.len()
    },
};

/// Tags of an event, with commas between them.
pub const TAGS: Kind = Kind {
    word: "tags",
    what: "1 to 16 tags of at most 64 bytes, with commas between them",
    pattern: "[!-+.-~-]{1,64}(,[!-+.-~-]{1,64}){0,7}",
    format: None,
    fits: |text| text.split(',').count() <= 16 && text.split(',').all(|one| (TAG.fits)(one.trim())),
};

/// A media type.
pub const MEDIA: Kind = Kind {
    word: "media type",
    what: "a media type such as text/plain",
    pattern: r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,64}/[A-Za-z0-9!#$%&'*+.^_`|~-]{1,64}( *;[ -~]*)?",
    format: None,
    fits: |text| is_plain(text) && is_media(text),
};

/// An expression of CEL.
pub const CEL: Kind = Kind {
    word: "CEL expression",
    what: "an expression of CEL, such as data.total > 100.0",
    pattern: "",
    format: Some("cel"),
    fits: |_| true,
};

/// The name of a service.
pub const SERVICE: Kind = Kind {
    word: "service",
    what: "the name of a service",
    pattern: "[A-Za-z0-9][A-Za-z0-9._/-]{0,127}",
    format: None,
    fits: |text| text.parse::<Name>().is_ok(),
};

/// A path as requests have it.
pub const PATH: Kind = Kind {
    word: "path",
    what: "a path as requests have it once they are normalised, such as /events",
    pattern: "/([A-Za-z0-9_-]{1,24}/){0,3}[A-Za-z0-9_-]{0,24}",
    format: None,
    fits: is_path,
};

/// When something recurs.
pub const CRON: Kind = Kind {
    word: "cron expression",
    what: "five or six fields of cron, @daily and the like, or @every 5m",
    pattern: "",
    format: Some("cron"),
    fits: |_| true,
};

/// A time zone.
pub const ZONE: Kind = Kind {
    word: "time zone",
    what: "a time zone such as Europe/Berlin",
    pattern: "",
    format: Some("time-zone"),
    fits: |_| true,
};

/// A moment.
pub const TIME: Kind = Kind {
    word: "time",
    what: "a time such as 2026-01-31T00:00:00Z",
    pattern: moment!(),
    format: None,
    fits: is_time,
};

/// Where reading begins.
pub const START: Kind = Kind {
    word: "word, position or time",
    what: "first, last, next, a position, or a time such as 2026-01-31T00:00:00Z",
    pattern: concat!("(first|last|next|[0-9]{1,19}|", moment!(), ")"),
    format: None,
    fits: |text| {
        matches!(text, "first" | "last" | "next")
            || (text.bytes().all(|byte| byte.is_ascii_digit()) && text.parse::<u64>().is_ok())
            || is_time(text)
    },
};

/// A share of a whole.
pub const SHARE: Kind = Kind {
    word: "share",
    what: "a share such as 20%",
    pattern: r"(100(\.0{1,9})?|[1-9]?[0-9](\.[0-9]{1,9})?)%",
    format: None,
    fits: |text| share(text).is_some(),
};

/// A method of HTTP.
pub const METHOD: Kind = Kind {
    word: "method",
    what: "a method such as GET",
    pattern: r"[A-Za-z0-9!#$%&'*+.^_`|~-]+",
    format: None,
    fits: |text| !text.is_empty() && text.bytes().all(weft_wire::fields::is_token),
};

/// The path of a folder.
pub const FOLDER: Kind = Kind {
    word: "path",
    what: "the absolute path of a folder",
    pattern: r"/[^\x00]*",
    format: None,
    fits: |text| text.starts_with('/') && !text.contains('\0'),
};

/// The share that a text names: a percentage.
pub fn share(text: &str) -> Option<f64> {
    text.strip_suffix('%').filter(|percent| !percent.ends_with(' '))?;
    parse_share(text).ok().filter(|share| (0.0..=1.0).contains(share))
}

fn is_path(text: &str) -> bool {
    let rules = path::Rules { encoded_slash: path::EncodedSlash::Keep, ..path::Rules::default() };
    text.starts_with('/')
        && !text.contains("//")
        && text.chars().all(|c| c.is_ascii_graphic() && !"?#\\\"<>`^|".contains(c))
        && path::normalise(text, rules).is_ok_and(|normal| normal == text)
}

fn is_plain(text: &str) -> bool {
    !text.chars().any(char::is_control)
}

fn is_media(text: &str) -> bool {
    let token = |part: &str| !part.is_empty() && part.bytes().all(weft_wire::fields::is_token);
    let essence = text.split(';').next().unwrap_or_default().trim_end();
    essence.split_once('/').is_some_and(|(kind, sub)| token(kind) && token(sub))
}

fn is_time(text: &str) -> bool {
    let formed = text.is_ascii()
        && text.len() >= 20
        && text.as_bytes().first().is_some_and(|year| (b'0'..=b'8').contains(year))
        && text.as_bytes().get(10) == Some(&b'T')
        && text.as_bytes().get(16) == Some(&b':')
        && !text.contains([',', 'z', '['])
        && text.get(17..19).is_some_and(|second| second != "60")
        && offset_is_formed(text.get(19..).unwrap_or_default());
    formed && time::parse("time", text).is_ok()
}

/// What follows the seconds: a fraction of up to nine digits, and the offset.
fn offset_is_formed(rest: &str) -> bool {
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let at = rest.find(['Z', '+', '-']).unwrap_or(rest.len());
    let (fraction, offset) = rest.split_at(at);
    let fraction_fits = fraction.is_empty()
        || fraction
            .strip_prefix('.')
            .is_some_and(|part| (1..=9).contains(&part.len()) && digits(part));
    let offset_fits = match offset.split_at_checked(1) {
        Some(("Z", "")) => true,
        Some(("+" | "-", rest)) => match rest.split_once(':') {
            Some((hours, minutes)) => {
                let below = |text: &str, most: u8| {
                    text.len() == 2 && digits(text) && text.parse::<u8>().is_ok_and(|n| n < most)
                };
                below(hours, 24) && below(minutes, 60)
            }
            None => false,
        },
        _ => false,
    };
    fraction_fits && offset_fits
}
