//! Request paths in one form (RFC 3986 section 6.2.2), so that what is matched, authorized and sent on
//! is the same path.
//!
//! Normal means: escapes of unreserved characters are undone and other escapes are in upper case, `.`
//! and `..` segments are resolved, repeated slashes are one. Refused is what two servers may read in
//! two ways: an encoded slash, backslash or NUL, a raw backslash, a control or non-ASCII byte, a broken
//! escape, a fragment, a dot segment with parameters (`..;x`), and a path that leaves the root. A query
//! is not touched.
//!
//! Invariants: the result of [`normalise`] is normal; a path that is normal already costs one scan and
//! no allocation.

use std::borrow::Cow;

use weft_kernel::Reason;

/// What becomes of `%2F` and `%5C`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EncodedSlash {
    /// The path is refused.
    #[default]
    Reject,
    /// They stay as they are: part of a segment. A path in which they would make a dot segment for a
    /// server that decodes them (`..%2F`) is refused all the same.
    Keep,
}

/// What is left to choice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// What becomes of `%2F` and `%5C`.
    pub encoded_slash: EncodedSlash,
    /// Whether repeated slashes are made one.
    pub merge_slashes: bool,
}

impl Default for Rules {
    fn default() -> Self {
        Self { encoded_slash: EncodedSlash::Reject, merge_slashes: true }
    }
}

/// What a byte of a path needs.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Class {
    Plain,
    Slash,
    Percent,
    Question,
    Refused,
}

const CLASSES: [Class; 256] = {
    let mut classes = [Class::Refused; 256];
    let mut byte = 0x21;
    while byte < 0x7f {
        classes[byte] = Class::Plain;
        byte += 1;
    }
    classes[b'/' as usize] = Class::Slash;
    classes[b'%' as usize] = Class::Percent;
    classes[b'?' as usize] = Class::Question;
    classes[b'\\' as usize] = Class::Refused;
    classes[b'#' as usize] = Class::Refused;
    classes
};

/// Normalises the path of a request target in origin form (`/path?query`); the asterisk form stays.
///
/// # Errors
///
/// [`Reason::UnsafePath`] for a path that is refused, also one that does not begin with a slash.
pub fn normalise(target: &str, rules: Rules) -> Result<Cow<'_, str>, Reason> {
    let bytes = target.as_bytes();
    if bytes.first() != Some(&b'/') {
        return if target == "*" { Ok(Cow::Borrowed(target)) } else { Err(Reason::UnsafePath) };
    }
    let mut at = 0;
    loop {
        // Nearly all bytes are plain: a tight loop of their own keeps the scan at a load and a compare.
        let plain = |byte: &u8| CLASSES[usize::from(*byte)] == Class::Plain;
        at += bytes[at..].iter().take_while(|byte| plain(byte)).count();
        let Some(byte) = bytes.get(at) else { break };
        match CLASSES[usize::from(*byte)] {
            Class::Plain => at += 1,
            Class::Slash => {
                at += 1;
                match bytes.get(at) {
                    Some(b'/') if rules.merge_slashes => return rewrite(target, rules),
                    Some(b'.') if Dots::of(segment(&bytes[at..])) != Dots::None => {
                        return rewrite(target, rules);
                    }
                    _ => {}
                }
            }
            Class::Percent => match Escape::of(&bytes[at..], rules)? {
                Escape::Normal => at += 3,
                Escape::Change => return rewrite(target, rules),
                // What hides behind the slash takes a closer look.
                Escape::Slash => return rewrite(target, rules),
            },
            Class::Question => break,
            Class::Refused => return Err(Reason::UnsafePath),
        }
    }
    Ok(Cow::Borrowed(target))
}

/// The bytes up to the end of a segment.
fn segment(bytes: &[u8]) -> &[u8] {
    let end = bytes.iter().position(|byte| matches!(byte, b'/' | b'?')).unwrap_or(bytes.len());
    &bytes[..end]
}

/// How many dots a segment is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Dots {
    None,
    One,
    Two,
    /// With parameters: one server drops them and resolves the dots, another does not.
    Disguised,
}

impl Dots {
    fn of(segment: &[u8]) -> Self {
        match segment {
            b"." => Self::One,
            b".." => Self::Two,
            [b'.', b';', ..] | [b'.', b'.', b';', ..] => Self::Disguised,
            _ => Self::None,
        }
    }
}

/// What an escape needs.
enum Escape {
    /// It stays.
    Normal,
    /// It stands for an unreserved character, or its digits are in lower case.
    Change,
    /// It stands for a slash or a backslash, and the rules keep it.
    Slash,
}

impl Escape {
    fn of(bytes: &[u8], rules: Rules) -> Result<Self, Reason> {
        let Some(byte) = unescape(bytes) else { return Err(Reason::UnsafePath) };
        match byte {
            0 => Err(Reason::UnsafePath),
            b'/' | b'\\' => match rules.encoded_slash {
                EncodedSlash::Reject => Err(Reason::UnsafePath),
                EncodedSlash::Keep => Ok(Self::Slash),
            },
            byte if is_unreserved(byte) => Ok(Self::Change),
            _ if bytes[1].is_ascii_lowercase() || bytes[2].is_ascii_lowercase() => Ok(Self::Change),
            _ => Ok(Self::Normal),
        }
    }
}

fn unescape(bytes: &[u8]) -> Option<u8> {
    let [b'%', high, low, ..] = bytes else { return None };
    let digit = |byte: &u8| char::from(*byte).to_digit(16);
    u8::try_from(digit(high)? << 4 | digit(low)?).ok()
}

const fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

/// The path written anew, segment by segment.
#[cold]
fn rewrite(target: &str, rules: Rules) -> Result<Cow<'_, str>, Reason> {
    let (path, query) = match target.find('?') {
        Some(at) => target.split_at(at),
        None => (target, ""),
    };
    let mut out: Vec<u8> = Vec::with_capacity(target.len());
    let mut segments = path.as_bytes()[1..].split(|byte| *byte == b'/').peekable();
    while let Some(raw) = segments.next() {
        let is_last = segments.peek().is_none();
        let start = out.len();
        out.push(b'/');
        write_segment(raw, rules, &mut out)?;
        match Dots::of(&out[start + 1..]) {
            Dots::Disguised => return Err(Reason::UnsafePath),
            // `/a/.` is the folder `/a/`, so that a last dot leaves its slash.
            Dots::One => out.truncate(start + usize::from(is_last)),
            Dots::Two => {
                out.truncate(start);
                let parent =
                    out.iter().rposition(|byte| *byte == b'/').ok_or(Reason::UnsafePath)?;
                out.truncate(parent + usize::from(is_last));
            }
            Dots::None => {
                // An empty segment is a repeated slash, but for the last, which is the closing one.
                if rules.merge_slashes && !is_last && out.len() == start + 1 {
                    out.truncate(start);
                }
            }
        }
    }
    out.extend_from_slice(query.as_bytes());
    // The path is ASCII by now, and the query is as it came.
    String::from_utf8(out).map(Cow::Owned).map_err(|_not_utf8| Reason::UnsafePath)
}

fn write_segment(raw: &[u8], rules: Rules, out: &mut Vec<u8>) -> Result<(), Reason> {
    let start = out.len();
    // Where the piece began that a server would see as a segment if it decoded slashes.
    let mut piece = start;
    let mut at = 0;
    while let Some(byte) = raw.get(at) {
        match CLASSES[usize::from(*byte)] {
            Class::Plain => {
                out.push(*byte);
                at += 1;
            }
            Class::Percent => {
                let decoded = unescape(&raw[at..]).ok_or(Reason::UnsafePath)?;
                let escape = Escape::of(&raw[at..], rules)?;
                if matches!(escape, Escape::Slash) && Dots::of(&out[piece..]) != Dots::None {
                    return Err(Reason::UnsafePath);
                }
                if is_unreserved(decoded) {
                    out.push(decoded);
                } else {
                    out.push(b'%');
                    out.extend(raw[at + 1..at + 3].iter().map(u8::to_ascii_uppercase));
                }
                if matches!(escape, Escape::Slash) {
                    piece = out.len();
                }
                at += 3;
            }
            Class::Slash | Class::Question | Class::Refused => return Err(Reason::UnsafePath),
        }
    }
    if piece > start && Dots::of(&out[piece..]) != Dots::None {
        return Err(Reason::UnsafePath);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const KEEP: Rules = Rules { encoded_slash: EncodedSlash::Keep, merge_slashes: true };
    const ALL: [Rules; 4] = [
        Rules { encoded_slash: EncodedSlash::Reject, merge_slashes: true },
        Rules { encoded_slash: EncodedSlash::Reject, merge_slashes: false },
        KEEP,
        Rules { encoded_slash: EncodedSlash::Keep, merge_slashes: false },
    ];

    #[test]
    fn normal_paths_are_borrowed() {
        for path in [
            "/",
            "/a",
            "/a/",
            "/a/b.c/..d/.well-known/...",
            "/a?b//../%2f\\é",
            "/?",
            "/a%20b",
            "/%C3%A9",
            "/a;b=c",
            "/a:b@c!$&'()*+,=",
            "/.a",
            "/a.",
            "/a..",
            "*",
            "/a/%25",
            "/a|b{c}",
            "/.hidden;x",
        ] {
            let normal = normalise(path, Rules::default()).unwrap();
            assert!(matches!(normal, Cow::Borrowed(_)), "{path}");
            assert_eq!(normal, path);
        }
    }

    #[test]
    fn paths_are_rewritten() {
        for (path, expect) in [
            ("//", "/"),
            ("//a///b//", "/a/b/"),
            ("/.", "/"),
            ("/./", "/"),
            ("/a/.", "/a/"),
            ("/a/./b", "/a/b"),
            ("/a/..", "/"),
            ("/a/../", "/"),
            ("/a/b/..", "/a/"),
            ("/a/b/../", "/a/"),
            ("/a/b/../../c", "/c"),
            ("/a//../b", "/b"),
            ("/%61%2D%2e%5F%7e", "/a-._~"),
            ("/a/%2e%2E/b", "/b"),
            ("/a/.%2e/b", "/b"),
            ("/a/%2e", "/a/"),
            ("/%c3%a9", "/%C3%A9"),
            ("/%252e%252e/a", "/%252e%252e/a"),
            ("/%2525%32", "/%25252"),
            ("/a/../b?x=/../y//", "/b?x=/../y//"),
            ("/a/..?é", "/?é"),
            ("//?//", "/?//"),
        ] {
            assert_eq!(normalise(path, Rules::default()).as_deref(), Ok(expect), "{path}");
        }
    }

    #[test]
    fn slashes_may_be_left_alone() {
        let rules = Rules { merge_slashes: false, ..Rules::default() };
        for (path, expect) in [
            ("//", "//"),
            ("//a//b", "//a//b"),
            ("/a//../b", "/a/b"),
            ("//..", "/"),
            ("//../a", "/a"),
            ("/a/.//b", "/a//b"),
        ] {
            assert_eq!(normalise(path, rules).as_deref(), Ok(expect), "{path}");
        }
    }

    #[test]
    fn unsafe_paths_are_refused_whatever_the_rules() {
        for path in [
            "",
            "a",
            "?",
            "?/a",
            "**",
            "http://a/b",
            "/..",
            "/../",
            "/../a",
            "/a/../..",
            "/a/../../b",
            "/%2e%2e",
            "/.%2e/a",
            "/a\\b",
            "/a/..\\b",
            "/%00",
            "/a%00b",
            "/a b",
            "/a\tb",
            "/a\r\nb",
            "/a\0",
            "/a\u{7f}",
            "/é",
            "/a#b",
            "/%",
            "/%2",
            "/%zz",
            "/%2?",
            "/%%32",
            "/a/..;/b",
            "/a/.;x",
            "/a/..;",
            "/a/%2e%2e;x/b",
            "/a/%+1",
            "/%u002e",
        ] {
            for rules in ALL {
                assert_eq!(normalise(path, rules), Err(Reason::UnsafePath), "{path}");
            }
        }
    }

    #[test]
    fn encoded_slashes() {
        for path in ["/a%2fb", "/a%2Fb", "/a%5cb", "/a%5C", "/%2f", "/a/../%2f"] {
            assert_eq!(normalise(path, Rules::default()), Err(Reason::UnsafePath), "{path}");
        }
        for (path, expect) in [
            ("/a%2fb", Some("/a%2Fb")),
            ("/a%2Fb", Some("/a%2Fb")),
            ("/%5c", Some("/%5C")),
            ("/%2F..a", Some("/%2F..a")),
            ("/a%252f..", Some("/a%252f..")),
            ("/..%2fa", None),
            ("/a%2f..", None),
            ("/a%2f%2e%2e%2fb", None),
            ("/a%5c..%5cb", None),
            ("/a%2f.", None),
            ("/a%2f..;x", None),
            ("/%2e%2e%2f", None),
        ] {
            assert_eq!(normalise(path, KEEP).ok().as_deref(), expect, "{path}");
        }
    }

    #[test]
    fn every_byte_has_an_answer() {
        for byte in 0u8..128 {
            let path = format!("/a{}", char::from(byte));
            let refused = normalise(&path, Rules::default()).is_err();
            let expect = byte <= b' ' || matches!(byte, 0x7f | b'\\' | b'#' | b'%');
            assert_eq!(refused, expect, "{byte:#x}");
        }
    }

    /// The same in the plainest way, as a second opinion.
    fn plainly(path: &str) -> Option<String> {
        let bytes = path.as_bytes();
        let (mut text, mut at) = (Vec::new(), 0);
        while at < bytes.len() {
            if bytes[at] == b'%' {
                let code = u8::from_str_radix(path.get(at + 1..at + 3)?, 16).ok()?;
                if !path[at + 1..at + 3].bytes().all(|b| b.is_ascii_hexdigit())
                    || [0, b'/', b'\\'].contains(&code)
                {
                    return None;
                }
                match is_unreserved(code) {
                    true => text.push(code),
                    false => text.extend(format!("%{code:02X}").bytes()),
                }
                at += 3;
            } else {
                text.push(bytes[at]);
                at += 1;
            }
        }
        let text = String::from_utf8(text).ok()?;
        if !text.starts_with('/')
            || text.contains('\\')
            || text.bytes().any(|b| b <= b' ' || b > 126)
        {
            return None;
        }
        let mut stack: Vec<&str> = Vec::new();
        let pieces: Vec<&str> = text[1..].split('/').collect();
        for piece in &pieces {
            match *piece {
                "" | "." => {}
                ".." => {
                    stack.pop()?;
                }
                other if other.starts_with(".;") || other.starts_with("..;") => return None,
                other => stack.push(other),
            }
        }
        let folder = matches!(pieces.last(), Some(&"" | &"." | &".."));
        let slash = if folder && !stack.is_empty() { "/" } else { "" };
        Some(format!("/{}{slash}", stack.join("/")))
    }

    proptest! {
        #[test]
        fn a_second_opinion_agrees(path in "/([a./;\\\\]|%2[eEfF]|%41|%c3|%00|%){0,12}") {
            prop_assert_eq!(normalise(&path, Rules::default()).ok().map(Cow::into_owned), plainly(&path));
        }

        #[test]
        fn normal_is_normal(path in "/([ab./;?%]|%2[eEfF]|%5c|%41|%c3){0,14}", rules in 0usize..4) {
            if let Ok(normal) = normalise(&path, ALL[rules]) {
                let again = normalise(&normal, ALL[rules]);
                prop_assert_eq!(again.as_deref(), Ok(&*normal));
                let reach = normal.split('?').next().unwrap().split('/').any(|s| s == "." || s == "..");
                prop_assert!(!reach, "{}", normal);
                let query = |text: &str| text.split_once('?').map(|(_, query)| query.to_owned());
                prop_assert_eq!(query(&path), query(&normal));
            }
        }

        #[test]
        fn any_text_has_an_answer(text in any::<String>(), rules in 0usize..4) {
            if let Ok(normal) = normalise(&text, ALL[rules]) {
                prop_assert!(normal.len() <= text.len());
            }
        }
    }
}
