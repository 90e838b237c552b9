//! An entry as one line of text or JSON; runs on the writer thread.
//!
//! Everything a client can choose is escaped, so that no request can end a line, forge a field or
//! reach the terminal of whoever reads the log.

use std::{io::Write, net::SocketAddr, time::Duration};

use super::{Entry, Format, entry::facts};
use crate::trace::trace_id_hex;

const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

pub(super) fn write(entry: &Entry<'_>, format: Format, to: &mut Vec<u8>) {
    match format {
        Format::Json => json(entry, to),
        Format::Text => text(entry, to),
    }
    to.push(b'\n');
}

/// One flat object; what there is none of is left out.
fn json(entry: &Entry<'_>, to: &mut Vec<u8>) {
    let (date, time) = civil(entry.time_nanos);
    let millis = entry.time_nanos / 1_000_000 % 1_000;
    put(
        to,
        format_args!(
            "{{\"time\":\"{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{millis:03}Z\"",
            date.0, date.1, date.2, time.0, time.1, time.2
        ),
    );
    let field = |to: &mut Vec<u8>, name: &str, value: &[u8]| {
        if !value.is_empty() {
            put(to, format_args!(",\"{name}\":\""));
            escape_json(value, to);
            to.push(b'"');
        }
    };
    field(to, "listener", entry.listener.as_bytes());
    if let Some(client) = entry.client {
        put(to, format_args!(",\"client\":\"{client}\""));
    }
    field(to, "protocol", entry.protocol.as_bytes());
    field(to, "tls_version", entry.tls_version.as_bytes());
    field(to, "sni", entry.sni.as_bytes());
    field(to, "method", entry.method);
    field(to, "host", entry.host);
    field(to, "path", entry.path);
    if entry.status > 0 {
        put(to, format_args!(",\"status\":{}", entry.status));
    }
    if let Some(status) = entry.grpc {
        put(to, format_args!(",\"grpc_status\":{status}"));
    }
    if let Some(reason) = entry.reason {
        field(to, "reason", reason.word().as_bytes());
    }
    field(to, "detail", entry.detail.as_bytes());
    put(to, format_args!(",\"duration_ms\":{}", Millis(entry.duration)));
    if let Some(upstream) = entry.upstream {
        put(to, format_args!(",\"upstream_ms\":{}", Millis(upstream)));
    }
    put(to, format_args!(",\"bytes_in\":{},\"bytes_out\":{}", entry.bytes_in, entry.bytes_out));
    field(to, "route", entry.route.as_bytes());
    field(to, "service", entry.service.as_bytes());
    field(to, "endpoint", entry.endpoint.as_bytes());
    if entry.attempts > 0 {
        put(to, format_args!(",\"attempts\":{}", entry.attempts));
    }
    field(to, "request_id", entry.request_id);
    if entry.trace_id != 0 {
        field(to, "trace_id", &trace_id_hex(entry.trace_id));
    }
    field(to, "user_agent", entry.user_agent);
    for (name, value) in facts(entry.facts) {
        field(to, name, value);
    }
    to.push(b'}');
}

/// The combined log format, with `-` as the user and the referrer, and more as `name=value` behind it.
fn text(entry: &Entry<'_>, to: &mut Vec<u8>) {
    let (date, time) = civil(entry.time_nanos);
    match entry.client.as_ref().map(SocketAddr::ip) {
        Some(ip) => put(to, format_args!("{ip}")),
        None => to.push(b'-'),
    }
    let month = MONTHS[usize::from(date.1).saturating_sub(1) % 12];
    put(
        to,
        format_args!(
            " - - [{:02}/{month}/{:04}:{:02}:{:02}:{:02} +0000] \"",
            date.2, date.0, time.0, time.1, time.2
        ),
    );
    for (at, part) in [entry.method, entry.path, entry.protocol.as_bytes()].into_iter().enumerate()
    {
        if at > 0 {
            to.push(b' ');
        }
        if part.is_empty() {
            to.push(b'-');
        }
        escape_text(part, to);
    }
    put(to, format_args!("\" {} {} \"-\" \"", entry.status, entry.bytes_out));
    if entry.user_agent.is_empty() {
        to.push(b'-');
    }
    escape_text(entry.user_agent, to);
    put(to, format_args!("\" duration={}ms", Millis(entry.duration)));
    if let Some(upstream) = entry.upstream {
        put(to, format_args!(" upstream={}ms", Millis(upstream)));
    }
    let field = |to: &mut Vec<u8>, name: &str, value: &[u8]| {
        if value.is_empty() {
            return;
        }
        put(to, format_args!(" {name}="));
        let plain = value.iter().all(|b| b.is_ascii_graphic() && !matches!(b, b'"' | b'\\' | b'='));
        if plain {
            to.extend_from_slice(value);
        } else {
            to.push(b'"');
            escape_text(value, to);
            to.push(b'"');
        }
    };
    if let Some(reason) = entry.reason {
        field(to, "reason", reason.word().as_bytes());
    }
    field(to, "detail", entry.detail.as_bytes());
    if let Some(status) = entry.grpc {
        put(to, format_args!(" grpc_status={status}"));
    }
    put(to, format_args!(" bytes_in={}", entry.bytes_in));
    if entry.attempts > 0 {
        put(to, format_args!(" attempts={}", entry.attempts));
    }
    field(to, "listener", entry.listener.as_bytes());
    field(to, "host", entry.host);
    field(to, "route", entry.route.as_bytes());
    field(to, "service", entry.service.as_bytes());
    field(to, "endpoint", entry.endpoint.as_bytes());
    field(to, "request_id", entry.request_id);
    if entry.trace_id != 0 {
        field(to, "trace_id", &trace_id_hex(entry.trace_id));
    }
    field(to, "tls_version", entry.tls_version.as_bytes());
    field(to, "sni", entry.sni.as_bytes());
    for (name, value) in facts(entry.facts) {
        field(to, name, value);
    }
}

fn put(to: &mut Vec<u8>, arguments: std::fmt::Arguments<'_>) {
    // Writing to memory does not fail.
    let _ = to.write_fmt(arguments);
}

/// Milliseconds with three digits behind the point, exactly.
struct Millis(Duration);

impl std::fmt::Display for Millis {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let micros = self.0.as_micros();
        write!(f, "{}.{:03}", micros / 1_000, micros % 1_000)
    }
}

/// Escapes for inside a JSON string (RFC 8259); bytes that are not UTF-8 become U+FFFD.
///
/// Beyond what JSON asks, DEL, the C1 controls and the two Unicode line separators are escaped, since
/// lines are also read by terminals and by tools that split there.
fn escape_json(value: &[u8], to: &mut Vec<u8>) {
    for chunk in value.utf8_chunks() {
        for char in chunk.valid().chars() {
            match char {
                '"' => to.extend_from_slice(b"\\\""),
                '\\' => to.extend_from_slice(b"\\\\"),
                '\n' => to.extend_from_slice(b"\\n"),
                '\r' => to.extend_from_slice(b"\\r"),
                '\t' => to.extend_from_slice(b"\\t"),
                _ if char.is_control() || matches!(char, '\u{2028}' | '\u{2029}') => {
                    put(to, format_args!("\\u{:04x}", char as u32));
                }
                _ => to.extend_from_slice(char.encode_utf8(&mut [0; 4]).as_bytes()),
            }
        }
        if !chunk.invalid().is_empty() {
            to.extend_from_slice("\u{fffd}".as_bytes());
        }
    }
}

/// Escapes for inside quotes of a text line, as nginx does: `\xHH` for all but printable ASCII.
fn escape_text(value: &[u8], to: &mut Vec<u8>) {
    for byte in value {
        match byte {
            b'"' | b'\\' => put(to, format_args!("\\x{byte:02X}")),
            b' '..=b'~' => to.push(*byte),
            _ => put(to, format_args!("\\x{byte:02X}")),
        }
    }
}

/// Year, month and day, and hour, minute and second in UTC.
///
/// Years are counted from March, which puts the leap day last and makes the lengths of months regular.
fn civil(nanos: u64) -> ((u64, u8, u8), (u8, u8, u8)) {
    let seconds = nanos / 1_000_000_000;
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    // 0000-03-01 is 719,468 days before 1970; 400 years have 146,097 days.
    let days = days + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (month, later) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    (
        (era * 400 + year + later, month as u8, day as u8),
        ((second / 3_600) as u8, (second / 60 % 60) as u8, (second % 60) as u8),
    )
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use weft_kernel::Reason;

    use super::*;

    fn line(entry: &Entry<'_>, format: Format) -> String {
        let mut to = Vec::new();
        write(entry, format, &mut to);
        String::from_utf8(to).unwrap()
    }

    fn full() -> Entry<'static> {
        Entry {
            time_nanos: 1_709_210_096_789_000_000,
            listener: "edge",
            route: "orders-v2",
            service: "orders",
            endpoint: "10.0.0.7:80",
            protocol: "HTTP/1.1",
            method: b"GET",
            host: b"shop.example",
            path: b"/orders/7",
            status: 504,
            grpc: None,
            reason: Some(Reason::ConnectTimeout),
            detail: "connect timed out after 1s",
            duration: Duration::from_micros(1_002_003),
            upstream: Some(Duration::from_micros(4_500)),
            bytes_in: 12,
            bytes_out: 345,
            attempts: 2,
            request_id: b"r-1",
            trace_id: 0xabc,
            client: Some("[2001:db8::1]:5555".parse().unwrap()),
            user_agent: b"curl/8",
            tls_version: "TLSv1.3",
            sni: "shop.example",
            facts: b"",
        }
    }

    #[test]
    fn a_full_line_of_each_kind() {
        assert_eq!(
            line(&full(), Format::Text),
            "2001:db8::1 - - [29/Feb/2024:12:34:56 +0000] \"GET /orders/7 HTTP/1.1\" 504 345 \"-\" \
             \"curl/8\" duration=1002.003ms upstream=4.500ms reason=connect_timeout \
             detail=\"connect timed out after 1s\" bytes_in=12 attempts=2 listener=edge \
             host=shop.example route=orders-v2 service=orders endpoint=10.0.0.7:80 request_id=r-1 \
             trace_id=00000000000000000000000000000abc tls_version=TLSv1.3 sni=shop.example\n"
        );
        assert_eq!(
            line(&full(), Format::Json),
            "{\"time\":\"2024-02-29T12:34:56.789Z\",\"listener\":\"edge\",\
             \"client\":\"[2001:db8::1]:5555\",\"protocol\":\"HTTP/1.1\",\"tls_version\":\"TLSv1.3\",\
             \"sni\":\"shop.example\",\"method\":\"GET\",\"host\":\"shop.example\",\
             \"path\":\"/orders/7\",\"status\":504,\"reason\":\"connect_timeout\",\
             \"detail\":\"connect timed out after 1s\",\"duration_ms\":1002.003,\
             \"upstream_ms\":4.500,\"bytes_in\":12,\"bytes_out\":345,\"route\":\"orders-v2\",\
             \"service\":\"orders\",\"endpoint\":\"10.0.0.7:80\",\"attempts\":2,\
             \"request_id\":\"r-1\",\"trace_id\":\"00000000000000000000000000000abc\",\
             \"user_agent\":\"curl/8\"}\n"
        );
    }

    #[test]
    fn facts_stand_last_and_are_escaped() {
        let mut facts = Vec::new();
        super::super::push_fact("consumer", "shop", &mut facts);
        super::super::push_fact("version", "a\"b", &mut facts);
        // Of what was cut off nothing is told.
        facts.extend_from_slice(&[7, 0, b'x']);
        let entry = Entry { facts: &facts, ..full() };
        let text = line(&entry, Format::Text);
        assert!(text.ends_with(" sni=shop.example consumer=shop version=\"a\\x22b\"\n"), "{text}");
        let json = line(&entry, Format::Json);
        assert!(json.ends_with(",\"consumer\":\"shop\",\"version\":\"a\\\"b\"}\n"), "{json}");
    }

    #[test]
    fn dates() {
        for (seconds, date) in [
            (0, (1970, 1, 1)),
            (951_782_400, (2000, 2, 29)),
            (951_868_800, (2000, 3, 1)),
            (1_735_603_200, (2024, 12, 31)),
            (4_107_542_400, (2100, 3, 1)),
        ] {
            assert_eq!(civil(seconds * 1_000_000_000).0, date, "{seconds}");
        }
        assert_eq!(civil(86_399_999_999_999).1, (23, 59, 59));
    }

    #[test]
    fn a_client_cannot_forge_a_line() {
        let evil = b"x\" 200 0\n127.0.0.1 - - \\ \x1b[2J\x7f\xff\xc2\x85\xe2\x80\xa8";
        let entry = Entry { path: evil, user_agent: evil, host: evil, ..Entry::default() };
        let text = line(&entry, Format::Text);
        assert_eq!(text.matches('\n').count(), 1);
        assert!(text.trim_end().bytes().all(|b| (b' '..=b'~').contains(&b)), "{text}");
        assert_eq!(text.matches('"').count(), 8, "{text}");
        let json = line(&entry, Format::Json);
        assert_eq!(json.matches('\n').count(), 1);
        assert!(!json.trim_end().chars().any(char::is_control), "{json}");
        assert!(!json.contains('\u{2028}'));
        assert!(json.contains(r#""path":"x\" 200 0\n127.0.0.1 - - \\ \u001b[2J\u007f"#), "{json}");
    }

    proptest! {
        #[test]
        fn any_bytes_make_one_line_of_json_that_keeps_them(bytes in proptest::collection::vec(any::<u8>(), 1..60)) {
            let json = line(&Entry { path: &bytes, ..Entry::default() }, Format::Json);
            let value: serde_json::Value = serde_json::from_str(&json).unwrap();
            prop_assert_eq!(value["path"].as_str().unwrap(), &*String::from_utf8_lossy(&bytes));
            prop_assert_eq!(json.lines().count(), 1);
        }
    }
}
