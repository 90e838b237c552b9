//! The steps of the tour that are about the edge: who calls, how often, how much, and once.

use anyhow::{Context, Result, ensure};

use super::{
    fleet::{Fleet, PARTNER_KEY},
    steps::ORDER,
};
use crate::http::Answer;

const STOCK: &str = "/partners/stock/tea";
const ORDERS: &str = "/partners/orders";

/// What the partner asks, with its key.
fn ask(fleet: &Fleet, method: &str, path: &str, fields: &str, json: &str) -> Result<Answer> {
    let fields = format!("x-api-key: {PARTNER_KEY}\r\n{fields}");
    Ok(fleet.client().send_with(method, path, &fields, json)?)
}

/// The reason that a problem has, if it is this one.
fn is(answer: &Answer, status: u16, reason: &str) -> Result<()> {
    let as_told = answer.status == status && answer.body.contains(reason);
    ensure!(as_told, "{status} {reason} was expected: {}: {}", answer.status, answer.body);
    Ok(())
}

pub(super) fn who(fleet: &mut Fleet) -> Result<String> {
    let nobody = fleet.client().get(STOCK)?;
    is(&nobody, 401, "unauthenticated")?;
    let challenge = nobody.field("www-authenticate").context("it is not said what would do")?;
    let wrong = fleet.client().send_with("GET", STOCK, "x-api-key: partner-guess\r\n", "")?;
    is(&wrong, 401, "unauthenticated")?;
    let partner = ask(fleet, "GET", STOCK, "", "")?;
    ensure!(partner.status == 200, "{}: {}", partner.status, partner.body);
    Ok(format!(
        "GET {STOCK} without a key and with a wrong one → 401 ({challenge}); with the partner's → 200 from {}",
        partner.instance()
    ))
}

pub(super) fn how_often(fleet: &mut Fleet) -> Result<String> {
    for asked in 1..=20 {
        let answer = ask(fleet, "GET", STOCK, "", "")?;
        if answer.status == 200 {
            continue;
        }
        is(&answer, 429, "rate_limited")?;
        let after = answer.field("retry-after").context("it is not said when to come back")?;
        let policy = answer.field("ratelimit-policy").context("the limit is not told")?;
        return Ok(format!(
            "request {asked} → 429, Retry-After: {after}, RateLimit-Policy: {policy}"
        ));
    }
    anyhow::bail!("twenty requests at once pass a limit of five")
}

pub(super) fn once(fleet: &mut Fleet) -> Result<String> {
    let key = "Idempotency-Key: \"order-of-the-tour\"\r\n";
    let first = ask(fleet, "POST", ORDERS, key, ORDER)?;
    ensure!(first.status == 201, "{}: {}", first.status, first.body);
    let again = ask(fleet, "POST", ORDERS, key, ORDER)?;
    let is_same = (again.status, &again.body) == (201, &first.body);
    ensure!(is_same, "the same again is {}: {}", again.status, again.body);
    ensure!(again.field("idempotent-replayed") == Some("true"), "it was placed twice");
    let other = ORDER.replace("\"quantity\":2", "\"quantity\":3");
    is(&ask(fleet, "POST", ORDERS, key, &other)?, 422, "idempotency_key_reused")?;
    fleet.crash_weft()?;
    let after = ask(fleet, "POST", ORDERS, key, ORDER)?;
    let is_same = (after.status, &after.body) == (201, &first.body);
    ensure!(is_same, "after kill -9 it is {}: {}", after.status, after.body);
    let place = first.field("location").context("the answer has no Location")?;
    Ok(format!(
        "POST {ORDERS} with one Idempotency-Key three times, kill -9 of Weft between → one order, {place}; \
         with another body → 422"
    ))
}

pub(super) fn how_much(fleet: &mut Fleet) -> Result<String> {
    let admin = format!("http://{}", fleet.admin());
    let refused = (0..30).find_map(|_| match ask(fleet, "GET", ORDERS, "", "") {
        Ok(answer) if answer.status == 200 => None,
        refused => Some(refused),
    });
    let refused = refused.context("thirty requests pass a quota of ten")??;
    is(&refused, 429, "quota_exceeded")?;
    let more = ["quota", "add", "partners", "partner", "5", "--admin", &admin];
    let (good, said) = fleet.weft(&more)?;
    ensure!(good, "`weft quota add` failed:\n{said}");
    let answer = ask(fleet, "GET", ORDERS, "", "")?;
    ensure!(answer.status == 200, "{}: {}", answer.status, answer.body);
    let left = answer.field("ratelimit").context("what is left is not told")?;
    Ok(format!(
        "ten a month are used up → 429; `weft quota add partners partner 5` → 200, RateLimit: {left}"
    ))
}
