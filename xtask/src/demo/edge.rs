//! The steps of the tour that are about the edge: who calls, how often, how much, once, and who is logged in.

use anyhow::{Context, Result, ensure};

use super::{
    fleet::{Fleet, PARTNER_KEY},
    steps::ORDER,
};
use crate::http::{Answer, Client};

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

/// What a browser asks for a page with.
const PAGE: &str = "accept: text/html\r\nsec-fetch-mode: navigate\r\n";
const MINE: &str = "/my/orders";

/// A browser that has come to a place: what it was answered, and the cookies that it has.
struct Browser {
    cookies: Vec<(String, String)>,
}

impl Browser {
    /// Opens a page, with fields besides its own, and keeps the cookies that are set.
    fn open(&mut self, place: &str, fields: &str) -> Result<Answer> {
        let (host, path) = place.split_once('/').context("a place has a path")?;
        let cookies: Vec<_> =
            self.cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let fields = format!("{PAGE}cookie: {}\r\n{fields}", cookies.join("; "));
        let answer =
            Client::new(host.parse()?).send_with("GET", &format!("/{path}"), &fields, "")?;
        for line in answer.all("set-cookie") {
            let pair = line.split(';').next().unwrap_or_default();
            let (name, value) = pair.split_once('=').context("a cookie without a name")?;
            self.cookies.retain(|(known, _)| known != name);
            if !value.is_empty() {
                self.cookies.push((name.to_owned(), value.to_owned()));
            }
        }
        Ok(answer)
    }
}

/// Where an answer sends a browser: `HOST/PATH`, of the host that was asked if it names none.
fn sent(answer: &Answer, from: &str) -> Result<String> {
    let is_sent = matches!(answer.status, 302 | 303);
    ensure!(is_sent, "a way elsewhere was expected: {}: {}", answer.status, answer.body);
    let to = answer.field("location").context("it is not said where to go")?;
    Ok(to.strip_prefix("http://").map_or_else(|| format!("{from}{to}"), str::to_owned))
}

pub(super) fn login(fleet: &mut Fleet) -> Result<String> {
    let (web, forged) = (fleet.web().to_string(), "x-user: 1\r\n");
    let ordered =
        fleet.client().send("POST", "/orders", &ORDER.replace("\"user_id\":1", "\"user_id\":2"))?;
    ensure!(ordered.status == 201, "{}: {}", ordered.status, ordered.body);
    is(&fleet.client().send_with("GET", MINE, forged, "")?, 401, "unauthenticated")?;
    let mut browser = Browser { cookies: Vec::new() };
    let provider = sent(&browser.open(&format!("{web}{MINE}"), "")?, &web)?;
    let form = browser.open(&provider, "")?;
    ensure!(form.body.contains("I am Grace"), "nobody is asked who they are: {}", form.body);
    let back = sent(&browser.open(&format!("{provider}&user=2"), "")?, &provider)?;
    let page = sent(&browser.open(&back, "")?, &web)?;
    let mine = browser.open(&page, forged)?;
    ensure!(mine.status == 200, "{}: {}", mine.status, mine.body);
    ensure!(mine.body.contains("\"user_id\":2"), "Grace has no order: {}", mine.body);
    ensure!(!mine.body.contains("\"user_id\":1"), "Grace sees orders of Ada: {}", mine.body);
    let out = browser.open(&format!("{web}/oauth2/logout"), "")?;
    sent(&out, &web)?;
    let after = browser.open(&format!("{web}{MINE}"), "")?;
    sent(&after, &web)?;
    Ok(format!(
        "GET {MINE} → the provider → back with a code → 200 with the orders of Grace, though the client said \
         it was Ada; after the logout → the provider again"
    ))
}
