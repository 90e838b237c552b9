//! Requests that are proxied, answered or refused.

use anyhow::{Result, ensure};

use super::rig::Rig;
use crate::http::Client;

/// A connection that is opened for one request and closed.
pub(super) fn connection(rig: &mut Rig) -> Result<()> {
    let answer = Client::new(rig.web).get("/hello")?;
    ensure!(answer.status == 200, "{answer:?}");
    Ok(())
}

/// A request that Weft answers itself.
pub(super) fn request(rig: &mut Rig) -> Result<()> {
    rig.ask("GET", "/hello", "", &[200])
}

/// A request that a service answers.
pub(super) fn to_service(rig: &mut Rig) -> Result<()> {
    rig.ask("GET", "/service", "", &[200])
}

/// A request whose first try fails; its budget may be spent.
pub(super) fn tried_again(rig: &mut Rig) -> Result<()> {
    rig.ask("GET", "/flaky", "", &[200, 503])
}

/// A request to a service where nobody listens.
pub(super) fn refused(rig: &mut Rig) -> Result<()> {
    rig.ask("GET", "/nobody", "", &[502, 503])
}

/// A request that is for no route.
pub(super) fn without_route(rig: &mut Rig) -> Result<()> {
    let path = format!("/nowhere/{}", rig.next());
    rig.ask("GET", &path, "", &[404])
}

/// A reload of the configuration.
pub(super) fn reload(rig: &mut Rig) -> Result<()> {
    let answer = rig.admin.send("POST", "/v1/reload", "")?;
    ensure!(answer.status == 200, "{answer:?}");
    Ok(())
}
