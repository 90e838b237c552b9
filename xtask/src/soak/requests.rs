//! Requests that are proxied, answered or refused.

use std::io::{self, BufReader, Read, Write};

use anyhow::{Result, ensure};

use super::testbed::Testbed;
use crate::http::Client;

/// A connection that is opened for one request and closed.
pub(super) fn connection(testbed: &mut Testbed) -> Result<()> {
    let answer = Client::new(testbed.web).get("/hello")?;
    ensure!(answer.status == 200, "{answer:?}");
    Ok(())
}

/// A request that Weft answers itself.
pub(super) fn request(testbed: &mut Testbed) -> Result<()> {
    testbed.ask("GET", "/hello", "", &[200])
}

/// A request that a service answers.
pub(super) fn to_service(testbed: &mut Testbed) -> Result<()> {
    testbed.ask("GET", "/service", "", &[200])
}

/// A request of which the service gets a copy.
pub(super) fn mirrored(testbed: &mut Testbed) -> Result<()> {
    testbed.ask("POST", "/mirrored", r#"{"a": 1}"#, &[200])
}

/// A connection by HTTP/2 for one request, without TLS.
pub(super) fn http2(testbed: &mut Testbed) -> Result<()> {
    const SETTINGS: [u8; 9] = [0, 0, 0, 4, 0, 0, 0, 0, 0];
    // HEADERS that end stream 1: GET, http, and as literals the path and the authority.
    let fields = [&[0x82, 0x86, 0x04, 6], &b"/hello"[..], &[0x01, 4], b"soak"].concat();
    let head = [0, 0, u8::try_from(fields.len())?, 1, 0x05, 0, 0, 0, 1];
    let mut stream = BufReader::new(testbed.stream(testbed.web)?);
    let said = [&b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..], &SETTINGS, &head, &fields].concat();
    stream.get_mut().write_all(&said)?;
    loop {
        let mut head = [0; 9];
        stream.read_exact(&mut head)?;
        let [l1, l2, l3, kind, flags, .., id] = head;
        let length = u64::from(u32::from_be_bytes([0, l1, l2, l3]));
        io::copy(&mut (&mut stream).take(length), &mut io::sink())?;
        ensure!(kind != 3 && kind != 7, "frame {kind}: the stream or the connection is refused");
        // The response ends with HEADERS or DATA.
        if id == 1 && kind <= 1 && flags & 1 == 1 {
            return Ok(());
        }
    }
}

/// A connection that is passed on to the service as it comes.
pub(super) fn tunnel(testbed: &mut Testbed) -> Result<()> {
    let answer = Client::new(testbed.tcp).get("/service")?;
    ensure!(answer.status == 200, "{answer:?}");
    Ok(())
}

/// A request whose first try fails; its budget may be spent.
pub(super) fn tried_again(testbed: &mut Testbed) -> Result<()> {
    testbed.ask("GET", "/flaky", "", &[200, 503])
}

/// A request to a service where nobody listens.
pub(super) fn refused(testbed: &mut Testbed) -> Result<()> {
    testbed.ask("GET", "/nobody", "", &[502, 503])
}

/// A request that is for no route.
pub(super) fn without_route(testbed: &mut Testbed) -> Result<()> {
    let path = format!("/nowhere/{}", testbed.next());
    testbed.ask("GET", &path, "", &[404])
}

/// A reload of the configuration.
pub(super) fn reload(testbed: &mut Testbed) -> Result<()> {
    let answer = testbed.admin.send("POST", "/v1/reload", "")?;
    ensure!(answer.status == 200, "{answer:?}");
    Ok(())
}
