//! The shop as a caller meets it: real processes, real sockets on port 0.

#![allow(clippy::unwrap_used, reason = "tests")]

mod fleet;
mod http;

use fleet::{Instance, Relay, call};
use http::{Answer, send};
use serde_json::{Value, json};

const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

/// orders with inventory and payments behind a relay that stands in for Weft.
struct Shop {
    orders: Instance,
    inventory: Instance,
    payments: Instance,
    relay: Relay,
}

fn shop() -> Shop {
    let inventory = Instance::start("inventory", &[]);
    let payments = Instance::start("payments", &[]);
    let relay = Relay::start(&[("inventory", inventory.address), ("payments", payments.address)]);
    let orders = Instance::start("orders", &["--weft", &relay.url()]);
    Shop { orders, inventory, payments, relay }
}

fn order(sku: &str, quantity: u32) -> String {
    json!({ "user_id": 1, "lines": [{ "sku": sku, "quantity": quantity }] }).to_string()
}

fn json_of(answer: &Answer) -> Value {
    serde_json::from_slice(&answer.body).unwrap()
}

#[test]
fn an_order_reserves_and_pays_through_weft_in_one_trace() {
    let shop = shop();
    let answer =
        send(shop.orders.address, "POST", "/orders", &[("traceparent", PARENT)], &order("tea", 3));
    assert_eq!(answer.status, 201, "{answer:?}");
    let made = json_of(&answer);
    assert_eq!(made["total_cents"], 3 * 450);
    assert_eq!(answer.header("x-shop-instance"), Some("orders-1"));

    let path = format!("/reservations/{}", made["reservation"].as_str().unwrap());
    assert_eq!(json_of(&send(shop.inventory.address, "GET", &path, &[], ""))["total_cents"], 1350);
    let path = format!("/authorisations/{}", made["payment"].as_str().unwrap());
    assert_eq!(json_of(&send(shop.payments.address, "GET", &path, &[], ""))["cents"], 1350);

    let relayed = shop.relay.traceparents();
    assert_eq!(
        relayed,
        vec![PARENT.to_owned(); 3],
        "both calls and the event carry the caller's trace"
    );
}

#[test]
fn a_refused_payment_gives_the_stock_back() {
    let shop = shop();
    let answer = send(shop.orders.address, "POST", "/orders", &[], &order("mug", 500));
    assert_eq!(answer.status, 402, "{answer:?}");
    assert!(json_of(&answer)["detail"].as_str().unwrap().starts_with("payments: "));
    let stock = json_of(&send(shop.inventory.address, "GET", "/stock/mug", &[], ""));
    assert_eq!(stock["available"], 1_000_000);
    assert_eq!(json_of(&send(shop.orders.address, "GET", "/orders", &[], "")), json!([]));
}

#[test]
fn what_cannot_be_ordered_is_refused_with_its_reason() {
    let shop = shop();
    for (body, status, detail) in [
        (order("kettle", 6), 409, "6 kettle are wanted, 5 are left"),
        (order("lamp", 1), 404, "there is no article lamp"),
        (json!({ "user_id": 1 }).to_string(), 400, "an order needs lines"),
    ] {
        let answer = send(shop.orders.address, "POST", "/orders", &[], &body);
        assert_eq!(answer.status, status, "{answer:?}");
        assert!(json_of(&answer)["detail"].as_str().unwrap().contains(detail), "{answer:?}");
    }
}

#[test]
fn orders_without_weft_say_what_is_missing() {
    let orders = Instance::start("orders", &[]);
    let answer = send(orders.address, "POST", "/orders", &[], &order("tea", 1));
    assert_eq!(answer.status, 503);
    assert!(json_of(&answer)["detail"].as_str().unwrap().contains("--weft URL"));
}

#[test]
fn rest_and_grpc_show_the_same_orders_on_one_port() {
    let shop = shop();
    let to = shop.orders.url();
    let made = call(&["orders", "CreateOrder", &order("tea", 1), "--to", &to]).unwrap();
    let made: Value = serde_json::from_str(&made).unwrap();
    let path = format!("/orders/{}", made["id"]);
    assert_eq!(json_of(&send(shop.orders.address, "GET", &path, &[], "")), made);

    send(shop.orders.address, "POST", "/orders", &[], &order("tea", 2));
    let streamed = call(&["orders", "StreamOrders", "--to", &to]).unwrap();
    assert_eq!(streamed.lines().count(), 2);
    let lines =
        send(shop.orders.address, "GET", "/orders", &[("accept", "application/x-ndjson")], "");
    assert_eq!(lines.text(), streamed, "NDJSON over REST is what gRPC streams");

    let accept = [("accept", "text/event-stream")];
    let events = send(shop.orders.address, "GET", "/orders?follow=true&limit=2", &accept, "");
    assert_eq!(events.header("content-type"), Some("text/event-stream"));
    assert_eq!(events.text().matches("event: order\n").count(), 2);
}

#[test]
fn a_stream_that_follows_sees_what_is_ordered_later() {
    let shop = shop();
    let accept = [("accept", "application/x-ndjson")];
    let address = shop.orders.address;
    let follower = std::thread::spawn(move || {
        send(address, "GET", "/orders?follow=true&limit=1", &accept, "")
    });
    // The follower ends after one order, whichever comes first: its subscription or the order.
    let answer = send(shop.orders.address, "POST", "/orders", &[], &order("tea", 1));
    assert_eq!(answer.status, 201);
    let seen: Value = serde_json::from_slice(&follower.join().unwrap().body).unwrap();
    assert_eq!(seen, json_of(&answer));
}

#[test]
fn users_are_read_made_changed_and_streamed() {
    let users = Instance::start("users", &["--name", "7"]);
    let to = users.url();
    let ask = |method: &str, message: &str| call(&["users", method, message, "--to", &to]);
    assert!(ask("GetUser", r#"{"id":1}"#).unwrap().contains("Ada"));
    let made = ask("CreateUser", r#"{"name":"Radia","email":"radia@example.com"}"#).unwrap();
    assert!(made.contains(r#""id":6"#), "{made}");
    ask("UpdateUser", r#"{"id":6,"email":"r@example.com"}"#).unwrap();
    let read = ask("GetUser", r#"{"id":6}"#).unwrap();
    assert!(read.contains("Radia") && read.contains("r@example.com"), "{read}");
    assert_eq!(ask("StreamUsers", r#"{"limit":3}"#).unwrap().lines().count(), 3);
    assert!(ask("GetUser", r#"{"id":99}"#).unwrap_err().contains("NotFound: there is no user 99"));
    assert!(ask("CreateUser", r#"{"name":"x"}"#).unwrap_err().contains("InvalidArgument"));

    let counts =
        call(&["users", "GetUser", r#"{"id":2}"#, "--to", &to, "--repeat", "4", "--instances"]);
    assert_eq!(counts.unwrap(), "users-7 4\n");
}

#[test]
fn knobs_turn_while_the_instance_runs() {
    let users = Instance::start("users", &["--fail", "1"]);
    let payments = Instance::start("payments", &[]);
    let failing = call(&["users", "GetUser", r#"{"id":1}"#, "--to", &users.url()]);
    assert!(failing.unwrap_err().contains("Unavailable: the failure knob is turned up"));
    assert_eq!(send(users.address, "GET", "/health", &[], "").status, 200, "health is not failed");

    let turn = |body: &str| send(payments.address, "PUT", "/knobs", &[JSON], body).status;
    let ask = || send(payments.address, "GET", "/authorisations/none", &[], "").status;
    assert_eq!(ask(), 404);
    assert_eq!(turn(r#"{"fail_ratio":1}"#), 200);
    assert_eq!(ask(), 503);
    let report = json_of(&send(payments.address, "GET", "/knobs", &[], ""));
    assert_eq!((&report["requests"], &report["fail_ratio"]), (&json!(2), &json!(1.0)));
    assert_eq!(turn(r#"{"fail_ratio":0,"latency_ms":30}"#), 200);
    let began = std::time::Instant::now();
    assert_eq!(ask(), 404);
    assert!(began.elapsed().as_millis() >= 30);
    assert_eq!(turn(r#"{"fail_ratio":2}"#), 400);
    assert_eq!(turn(r#"{"speed":2}"#), 422);

    assert_eq!(turn(r#"{"hang":true}"#), 200);
    assert!(http::try_send(payments.address, "GET", "/health", &[], "").is_err(), "it hangs");
    assert_eq!(turn(r#"{"hang":false}"#), 200, "the knobs answer all the same");
    assert_eq!(send(payments.address, "GET", "/health", &[], "").status, 200);
}

const JSON: (&str, &str) = ("content-type", "application/json");

#[test]
fn asked_to_end_it_finishes_what_is_in_flight() {
    let mut payments = Instance::start("payments", &["--latency", "400ms"]);
    let mut asked = http::begin(payments.address, "GET", "/authorisations/none");
    // One thread serves all connections in turn: once a later request is answered, the first one is
    // past the door.
    assert_eq!(send(payments.address, "GET", "/knobs", &[], "").status, 200);
    payments.terminate();
    assert_eq!(http::read(&mut asked).unwrap().status, 404);
    assert!(payments.wait().success());
}
