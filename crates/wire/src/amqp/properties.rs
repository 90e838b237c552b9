//! The properties of a basic message: the flags that say which are there, and their values.

use super::{
    DecodeError, Table,
    reader::{Reader, put_long, put_short},
};

/// The properties of a message, borrowed from its content header.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Properties<'a> {
    /// What the body is: a MIME type.
    pub content_type: Option<&'a str>,
    /// How the body is encoded, such as `gzip`.
    pub content_encoding: Option<&'a str>,
    /// Headers of the application.
    pub headers: Option<Table<'a>>,
    /// 1 for transient, 2 for persistent.
    pub delivery_mode: Option<u8>,
    /// The priority; higher goes first.
    pub priority: Option<u8>,
    /// Which request this replies to.
    pub correlation_id: Option<&'a str>,
    /// Where to reply.
    pub reply_to: Option<&'a str>,
    /// Milliseconds to live, as digits.
    pub expiration: Option<&'a str>,
    /// The application's name of the message.
    pub message_id: Option<&'a str>,
    /// Seconds since 1970.
    pub timestamp: Option<u64>,
    /// The application's type of message.
    pub kind: Option<&'a str>,
    /// Who published; checked by the server.
    pub user_id: Option<&'a str>,
    /// Which application published.
    pub app_id: Option<&'a str>,
    /// Deprecated, and passed on.
    pub cluster_id: Option<&'a str>,
}

const CONTENT_TYPE: u16 = 1 << 15;
const CONTENT_ENCODING: u16 = 1 << 14;
const HEADERS: u16 = 1 << 13;
const DELIVERY_MODE: u16 = 1 << 12;
const PRIORITY: u16 = 1 << 11;
const CORRELATION_ID: u16 = 1 << 10;
const REPLY_TO: u16 = 1 << 9;
const EXPIRATION: u16 = 1 << 8;
const MESSAGE_ID: u16 = 1 << 7;
const TIMESTAMP: u16 = 1 << 6;
const KIND: u16 = 1 << 5;
const USER_ID: u16 = 1 << 4;
const APP_ID: u16 = 1 << 3;
const CLUSTER_ID: u16 = 1 << 2;

impl<'a> Properties<'a> {
    /// Reads flags and property list. Bytes after the last property are an error.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes, "properties");
        let flags = u16::from_be_bytes(reader.array()?);
        // The last bit would announce a second word of flags, and bit 1 a property: neither exists.
        if flags & 3 != 0 {
            return Err(DecodeError::Flags(flags));
        }
        let has = |flag| flags & flag != 0;
        let text = |flag, reader: &mut Reader<'a>| {
            if has(flag) { reader.short().map(Some) } else { Ok(None) }
        };
        let octet = |flag, reader: &mut Reader<'a>| {
            if has(flag) { reader.array().map(|[octet]| Some(octet)) } else { Ok(None) }
        };
        let properties = Self {
            content_type: text(CONTENT_TYPE, &mut reader)?,
            content_encoding: text(CONTENT_ENCODING, &mut reader)?,
            headers: match has(HEADERS) {
                true => Some(Table::parse(reader.long()?)?),
                false => None,
            },
            delivery_mode: octet(DELIVERY_MODE, &mut reader)?,
            priority: octet(PRIORITY, &mut reader)?,
            correlation_id: text(CORRELATION_ID, &mut reader)?,
            reply_to: text(REPLY_TO, &mut reader)?,
            expiration: text(EXPIRATION, &mut reader)?,
            message_id: text(MESSAGE_ID, &mut reader)?,
            timestamp: match has(TIMESTAMP) {
                true => Some(u64::from_be_bytes(reader.array()?)),
                false => None,
            },
            kind: text(KIND, &mut reader)?,
            user_id: text(USER_ID, &mut reader)?,
            app_id: text(APP_ID, &mut reader)?,
            cluster_id: text(CLUSTER_ID, &mut reader)?,
        };
        reader.end()?;
        Ok(properties)
    }

    /// Appends flags and property list.
    pub fn write(&self, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(&[0; 2]);
        let mut flags = 0;
        let mut text = |flag, value: Option<&str>, out: &mut Vec<u8>| {
            if let Some(value) = value {
                flags |= flag;
                put_short(value, out);
            }
        };
        text(CONTENT_TYPE, self.content_type, out);
        text(CONTENT_ENCODING, self.content_encoding, out);
        let mut others = 0;
        if let Some(headers) = self.headers {
            others |= HEADERS;
            put_long(headers.bytes(), out);
        }
        for (flag, value) in [(DELIVERY_MODE, self.delivery_mode), (PRIORITY, self.priority)] {
            if let Some(value) = value {
                others |= flag;
                out.push(value);
            }
        }
        text(CORRELATION_ID, self.correlation_id, out);
        text(REPLY_TO, self.reply_to, out);
        text(EXPIRATION, self.expiration, out);
        text(MESSAGE_ID, self.message_id, out);
        if let Some(seconds) = self.timestamp {
            others |= TIMESTAMP;
            out.extend_from_slice(&seconds.to_be_bytes());
        }
        text(KIND, self.kind, out);
        text(USER_ID, self.user_id, out);
        text(APP_ID, self.app_id, out);
        text(CLUSTER_ID, self.cluster_id, out);
        out[start..start + 2].copy_from_slice(&(flags | others).to_be_bytes());
    }
}
