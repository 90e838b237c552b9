//! One HTTP/1.1 response as it comes in pieces, held to what it should be.

use anyhow::Result;

/// Largest head of a response that a proxy of ours would send.
const HEAD_MAX: usize = 16 * 1024;

/// What has come of a response.
#[derive(Debug)]
pub(super) struct Response {
    /// The body's length, as it should be.
    length: usize,
    /// The head so far, if it came in pieces.
    head: Vec<u8>,
    /// Of the body, once the head is complete.
    missing: Option<usize>,
    verdict: Result<(), String>,
}

impl Response {
    pub(super) fn new(length: usize) -> Self {
        Self { length, head: Vec::new(), missing: None, verdict: Ok(()) }
    }

    /// Takes bytes; true once the response is complete. An error is the end of the connection.
    pub(super) fn feed(&mut self, bytes: &[u8]) -> Result<bool, String> {
        let body = match self.missing {
            Some(missing) => {
                self.missing = Some(missing.checked_sub(bytes.len()).ok_or("a body too long")?);
                return Ok(self.missing == Some(0));
            }
            None if self.head.is_empty() => match Self::head(bytes, self.length)? {
                Some((at, length, verdict)) => {
                    self.verdict = verdict;
                    (bytes.len() - at, length)
                }
                None => return self.keep(bytes),
            },
            None => {
                self.head.extend_from_slice(bytes);
                match Self::head(&self.head, self.length)? {
                    Some((at, length, verdict)) => {
                        self.verdict = verdict;
                        let body = self.head.len() - at;
                        self.head.clear();
                        (body, length)
                    }
                    None => return self.keep(&[]),
                }
            }
        };
        let (came, length) = body;
        self.missing = Some(length.checked_sub(came).ok_or("a body too long")?);
        Ok(self.missing == Some(0))
    }

    fn keep(&mut self, bytes: &[u8]) -> Result<bool, String> {
        self.head.extend_from_slice(bytes);
        if self.head.len() > HEAD_MAX { Err("a head too long".into()) } else { Ok(false) }
    }

    /// What is wrong with the response that is complete; begins the next.
    pub(super) fn take(&mut self) -> Result<(), String> {
        self.missing = None;
        std::mem::replace(&mut self.verdict, Ok(()))
    }

    /// Where the body begins, how long it is, and what is to say of it; none before the head is there.
    #[allow(clippy::type_complexity, reason = "one caller, three lines above")]
    fn head(
        bytes: &[u8],
        expect: usize,
    ) -> Result<Option<(usize, usize, Result<(), String>)>, String> {
        let mut fields = [httparse::EMPTY_HEADER; 48];
        let mut head = httparse::Response::new(&mut fields);
        let at = match head.parse(bytes) {
            Ok(httparse::Status::Complete(at)) => at,
            Ok(httparse::Status::Partial) => return Ok(None),
            Err(error) => return Err(format!("not HTTP: {error}")),
        };
        let length = head
            .headers
            .iter()
            .find(|field| field.name.eq_ignore_ascii_case("content-length"))
            .and_then(|field| std::str::from_utf8(field.value).ok()?.parse::<usize>().ok())
            .ok_or("a response without Content-Length")?;
        let verdict = match head.code {
            Some(200) if length == expect => Ok(()),
            Some(200) => Err(format!("{length} bytes instead of {expect}")),
            code => Err(format!("status {}", code.unwrap_or(0))),
        };
        Ok(Some((at, length, verdict)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_a_response_in_any_pieces() {
        let bytes = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";
        for cut in 0..bytes.len() {
            let mut response = Response::new(5);
            let (first, second) = bytes.split_at(cut);
            assert_eq!(response.feed(first), Ok(false), "{cut}");
            assert_eq!(response.feed(second), Ok(true), "{cut}");
            assert_eq!(response.take(), Ok(()));
            assert_eq!(response.feed(bytes), Ok(true), "the next");
        }
    }

    #[test]
    fn says_what_is_wrong() {
        let check = |bytes: &[u8], expect: &str| {
            let mut response = Response::new(5);
            let said = match response.feed(bytes) {
                Ok(complete) => {
                    assert!(complete);
                    response.take()
                }
                Err(error) => Err(error),
            };
            assert!(said.as_ref().is_err_and(|said| said.contains(expect)), "{said:?}");
        };
        check(b"HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n", "status 503");
        check(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nhell", "4 bytes");
        check(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello!", "too long");
        check(b"HTTP/1.1 200 OK\r\n\r\nhello", "without Content-Length");
        check(b"\x16\x03\x01 nonsense\r\n\r\n", "not HTTP");
        check(&[b"HTTP/1.1 200 OK\r\nA: ", vec![b'a'; 20_000].as_slice()].concat(), "too long");
    }
}
