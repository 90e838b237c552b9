//! Events in AMQP messages: an attribute is a header `cloudEvents:…`, the data is the body.
//!
//! The binding is written for AMQP 1.0's application properties; in 0-9-1 they are the headers table.
//! `cloudEvents_…` is read as well, because some clients cannot write a colon. Headers that are no
//! attributes, and all properties but the content type, are not the event's and stay as they are.

use std::borrow::Cow;

use super::{Attribute, Event, Fault, Mode, SPEC_VERSION, json};
use crate::amqp::{Properties, TableWriter, Value};

const PREFIX: &str = "cloudEvents:";
const OTHER_PREFIX: &str = "cloudEvents_";

/// The attribute that a header carries; `None` if it carries none.
pub fn attribute_of(header: &str) -> Option<&str> {
    header.strip_prefix(PREFIX).or_else(|| header.strip_prefix(OTHER_PREFIX))
}

/// Reads the event that a message holds, in binary or structured mode; `None` if it holds none.
pub fn parse<'a>(properties: &Properties<'a>, body: &'a [u8]) -> Option<Result<Event<'a>, Fault>> {
    if properties.content_type.and_then(Mode::of) == Some(Mode::Structured) {
        return Some(json::parse(body));
    }
    let mut attributes = properties
        .headers?
        .iter()
        .filter_map(|(name, value)| Some((attribute_of(name)?, value)))
        .peekable();
    attributes.peek()?;
    let mut event = Event::default();
    let mut version = false;
    for (name, value) in attributes {
        let Some(value) = attribute(value) else {
            return Some(Err(Fault::new(name, "has a type that no attribute has")));
        };
        version |= name == "specversion";
        if name == "datacontenttype" {
            return Some(Err(Fault::new(name, "is the property content-type in this binding")));
        }
        if let Err(fault) = event.set(Cow::Borrowed(name), value) {
            return Some(Err(fault));
        }
    }
    if !version {
        return Some(Err(Fault::new("specversion", "is required: 1.0")));
    }
    event.data_content_type = properties.content_type.map(Cow::Borrowed);
    if !body.is_empty() || event.data_content_type.is_some() {
        event.data = Some(Cow::Borrowed(body));
    }
    Some(event.check().map(|()| event))
}

fn attribute(value: Value<'_>) -> Option<Attribute<'_>> {
    Some(match value {
        Value::Long(bytes) => Attribute::Text(Cow::Borrowed(std::str::from_utf8(bytes).ok()?)),
        Value::Bool(set) => Attribute::Bool(set),
        Value::Bytes(bytes) => Attribute::Binary(Cow::Borrowed(bytes)),
        Value::Timestamp(seconds) => Attribute::Text(Cow::Owned(rfc3339(seconds)?)),
        other => Attribute::Integer(i32::try_from(other.integer()?).ok()?),
    })
}

/// Appends the properties (flags and list) of a message that carries `event`. What `others` has is
/// kept, but for its content type and for headers that are attributes.
pub fn write(event: &Event<'_>, others: &Properties<'_>, out: &mut Vec<u8>) {
    let mut table = Vec::with_capacity(256);
    {
        let mut table = TableWriter::new(&mut table);
        for entry in others.headers.iter().flat_map(|headers| headers.entries()) {
            if std::str::from_utf8(entry.name).ok().and_then(attribute_of).is_none() {
                table.copy(entry);
            }
        }
        let mut name = String::from(PREFIX);
        let mut put = |attribute: &str, value: Value<'_>| {
            name.truncate(PREFIX.len());
            name.push_str(attribute);
            table.entry(&name, value);
        };
        put("specversion", Value::Long(SPEC_VERSION.as_bytes()));
        let required = [("id", &event.id), ("source", &event.source), ("type", &event.kind)];
        for (attribute, text) in required {
            put(attribute, Value::Long(text.as_bytes()));
        }
        let optional = [
            ("subject", &event.subject),
            ("time", &event.time),
            ("dataschema", &event.data_schema),
        ];
        for (attribute, text) in optional {
            if let Some(text) = text {
                put(attribute, Value::Long(text.as_bytes()));
            }
        }
        for (attribute, value) in &event.extensions {
            put(
                attribute,
                match value {
                    Attribute::Text(text) => Value::Long(text.as_bytes()),
                    Attribute::Bool(set) => Value::Bool(*set),
                    Attribute::Integer(number) => Value::I32(*number),
                    Attribute::Binary(bytes) => Value::Bytes(bytes),
                },
            );
        }
    }
    // The length in front belongs to the writer of the properties.
    let headers = crate::amqp::Table::parse(&table[4..]).ok();
    Properties { content_type: event.data_content_type.as_deref(), headers, ..*others }.write(out);
}

/// Seconds since 1970 as text; `None` beyond the year 9999.
fn rfc3339(seconds: u64) -> Option<String> {
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    // Years that begin in March, so that a leap day is the last of its year (H. Hinnant's days_from_civil).
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    (year <= 9999).then(|| {
        let (hour, minute, second) = (rest / 3600, rest / 60 % 60, rest % 60);
        format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
    })
}

#[cfg(test)]
mod tests {
    use super::rfc3339;

    #[test]
    fn seconds_become_dates() {
        let check = |seconds, text: &str| assert_eq!(rfc3339(seconds).as_deref(), Some(text));
        check(0, "1970-01-01T00:00:00Z");
        check(951_782_400, "2000-02-29T00:00:00Z");
        check(1_767_366_245, "2026-01-02T15:04:05Z");
        check(253_402_300_799, "9999-12-31T23:59:59Z");
        assert_eq!(rfc3339(253_402_300_800), None);
        assert_eq!(rfc3339(u64::MAX / 2), None);
    }
}
