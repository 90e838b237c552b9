//! The steps of the tour that are about messages.

use std::fmt::Write;

use anyhow::{Context, Result, ensure};

use super::{
    fleet::{CALM, Fleet},
    steps::{ORDER, SOON},
};

/// How the services that an order is told to show what they made of it: where, and the words in it.
const TOLD: [(&str, &str, &str); 3] = [
    ("notifications", "/internal/notifications/notifications", "\"text\":\"order {} is placed\""),
    ("shipping", "/internal/shipping/shipments", "\"order_id\":{},"),
    ("invoices", "/internal/invoices/invoices", "\"order_id\":{},"),
];

/// Places an order; gives its number.
fn place(fleet: &Fleet, order: &str) -> Result<u64> {
    let answer = fleet.client().send("POST", "/orders", order)?;
    ensure!(answer.status == 201, "{}: {}", answer.status, answer.body);
    let place = answer.field("location").context("the answer has no Location")?;
    Ok(place.trim_start_matches("/orders/").parse()?)
}

/// Whether a service was told of an order.
fn knows(fleet: &Fleet, of: (&str, &str, &str), order: u64) -> bool {
    let words = of.2.replace("{}", &order.to_string());
    fleet.client().get(of.1).is_ok_and(|answer| answer.body.contains(&words))
}

/// Waits until a service was told of an order; gives how long that took.
fn told(fleet: &Fleet, of: (&str, &str, &str), order: u64) -> Result<std::time::Duration> {
    fleet
        .stop()
        .wait_until(SOON, || knows(fleet, of, order))
        .with_context(|| format!("{} does not hear of order {order}", of.0))
}

pub(super) fn three(fleet: &mut Fleet) -> Result<String> {
    let order = place(fleet, ORDER)?;
    let mut seen = format!("order {order} is placed");
    for of in TOLD {
        let took = told(fleet, of, order)?;
        write!(seen, "; {} knows of it {} ms later", of.0, took.as_millis())?;
    }
    Ok(seen)
}

pub(super) fn recovers(fleet: &mut Fleet) -> Result<String> {
    fleet.turn("notifications-1", r#"{"fail_ratio":1}"#)?;
    let order = place(fleet, ORDER)?;
    // The others are told meanwhile.
    told(fleet, TOLD[1], order)?;
    told(fleet, TOLD[2], order)?;
    let before = fleet.asked("notifications-1")?;
    fleet.stop().wait_until(SOON, || {
        fleet.asked("notifications-1").is_ok_and(|asked| asked >= before + 2)
    })?;
    fleet.turn("notifications-1", CALM)?;
    let took = told(fleet, TOLD[0], order)?;
    Ok(format!(
        "notifications answers 503 to order {order}, the others know of it; well again, it hears of the \
         order {} ms later",
        took.as_millis()
    ))
}

pub(super) fn redriven(fleet: &mut Fleet) -> Result<String> {
    let stranger = ORDER.replace("\"user_id\":1", "\"user_id\":5");
    let order = place(fleet, &stranger)?;
    told(fleet, TOLD[0], order)?;
    let admin = format!("http://{}", fleet.admin());
    let dead = ["queue", "peek", "invoices.dead", "--admin", &admin];
    let mut shown = String::new();
    fleet
        .stop()
        .wait_until(SOON, || {
            let Ok((good, said)) = fleet.weft(&dead) else { return false };
            shown = said;
            good && shown.contains("user 5 has no account")
        })
        .with_context(|| format!("no dead letter is shown:\n{shown}"))?;
    let mut client = fleet.client();
    let opened = client.send("PUT", "/internal/invoices/accounts/5", "")?;
    ensure!(opened.status == 204, "{}: {}", opened.status, opened.body);
    let (good, said) = fleet.weft(&["queue", "redrive", "invoices", "--admin", &admin])?;
    ensure!(good, "`weft queue redrive` failed:\n{said}");
    let took = told(fleet, TOLD[2], order)?;
    Ok(format!(
        "`weft queue peek invoices.dead` says \"user 5 has no account\"; opened, `weft queue redrive \
         invoices`, and the invoice of order {order} is there {} ms later",
        took.as_millis()
    ))
}

pub(super) fn crash(fleet: &mut Fleet) -> Result<String> {
    // Deaf, so that what is published has to wait in Weft.
    fleet.turn("notifications-1", r#"{"fail_ratio":1}"#)?;
    let mut orders = Vec::new();
    for _ in 0..20 {
        orders.push(place(fleet, ORDER)?);
    }
    fleet.crash_weft()?;
    fleet.turn("notifications-1", CALM)?;
    for of in TOLD {
        for order in &orders {
            told(fleet, of, *order)?;
        }
    }
    Ok(format!(
        "kill -9 with {} orders that notifications had not taken; started again, all three services know \
         of every one",
        orders.len()
    ))
}
