//! What the rows answer, in the words that clients of Confluent's registry wait for.

use std::sync::Arc;

use serde_json::{Value, json};
use weft_api::{Request, router};
use weft_kernel::{ByteSize, SystemClock};
use weft_ledger::{Ledger, Options, disk::SimulatedDisk};
use weft_schemas::Registry;
use weft_wire::{Known, Method};

use super::{MEDIA, SCHEMA_OPERATIONS, target::in_words};

struct Node {
    ledger: Ledger,
    registry: Registry,
}

impl Node {
    async fn new() -> Self {
        let options = Options { wal_file_bytes: ByteSize(1 << 22), ..Options::default() };
        let disk = Arc::new(SimulatedDisk::default());
        let (ledger, _) = Ledger::open(disk, options, Arc::new(SystemClock)).unwrap();
        ledger.start().unwrap();
        let store = Arc::new(ledger.namespace("schemas").unwrap());
        let registry = Registry::open(store).await.unwrap();
        Self { ledger, registry }
    }

    async fn send(&self, method: &str, target: &str, body: &str) -> (u16, Value) {
        let mut request = Request::new(Method::of(method), &format!("/v1/schemas{target}"));
        request.body = body.to_owned().into();
        let path = request.path.clone();
        let response = match router::route(SCHEMA_OPERATIONS.iter(), &request.method, &path) {
            Ok((row, names)) => row.answer(&self.registry, names, &request).await,
            Err(refused) => *refused,
        };
        let response = in_words(response).unwrap();
        assert_eq!(response.fields.get_str(Known::ContentType), Some(MEDIA));
        let (status, _, body) = response.into_whole();
        (status, serde_json::from_slice(&body).unwrap())
    }

    async fn get(&self, target: &str) -> (u16, Value) {
        self.send("GET", target, "").await
    }

    async fn register(&self, subject: &str, schema: &Value) -> (u16, Value) {
        let body = json!({ "schema": schema.to_string() });
        self.send("POST", &format!("/subjects/{subject}/versions"), &body.to_string()).await
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.ledger.close();
    }
}

fn record(fields: &Value) -> Value {
    json!({ "type": "record", "name": "R", "fields": fields })
}

#[tokio::test]
async fn a_schema_is_registered_found_and_deleted() {
    let node = Node::new().await;
    let one = record(&json!([{ "name": "a", "type": "int" }]));
    let (status, said) = node.register("s", &one).await;
    assert_eq!((status, &said["id"], &said["version"]), (200, &json!(1), &json!(1)));
    assert_eq!(node.get("/subjects").await, (200, json!(["s"])));
    assert_eq!(node.get("/subjects?surprise=1").await, (200, json!(["s"])));
    assert_eq!(node.get("/subjects?subjectPrefix=t").await, (200, json!([])));
    assert_eq!(node.get("/subjects/s/versions?deleted=False").await, (200, json!([1])));
    let text = r#"{"type":"record","name":"R","fields":[{"name":"a","type":"int"}]}"#;
    let whole = json!({ "subject": "s", "version": 1, "id": 1, "schema": text });
    assert_eq!(node.get("/subjects/s/versions/latest").await, (200, whole.clone()));
    assert_eq!(node.get("/subjects/s/versions/1").await, (200, whole.clone()));
    assert_eq!(node.get("/subjects/s/versions/1/schema").await, (200, one.clone()));
    assert_eq!(node.get("/schemas/ids/1").await, (200, json!({ "schema": text })));
    assert_eq!(node.get("/schemas/ids/1/schema").await, (200, one.clone()));
    assert_eq!(node.get("/schemas/ids/1/subjects").await, (200, json!(["s"])));
    let uses = json!([{ "subject": "s", "version": 1 }]);
    assert_eq!(node.get("/schemas/ids/1/versions").await, (200, uses));
    assert_eq!(node.get("/schemas/types").await, (200, json!(["JSON", "PROTOBUF", "AVRO"])));
    assert_eq!(node.get("/schemas").await, (200, json!([whole.clone()])));
    let body = json!({ "schema": text, "schemaType": "AVRO", "metadata": null }).to_string();
    assert_eq!(node.send("POST", "/subjects/s", &body).await, (200, whole));
    assert_eq!(node.send("DELETE", "/subjects/s/versions/1", "").await, (200, json!(1)));
    assert_eq!(node.get("/subjects/s/versions/1").await.0, 404);
    assert_eq!(node.get("/subjects/s/versions/1?deleted=true").await.1["deleted"], true);
    assert_eq!(node.send("DELETE", "/subjects/s?permanent=true", "").await, (200, json!([1])));
    assert_eq!(node.get("/subjects?deleted=true").await, (200, json!([])));
}

#[tokio::test]
async fn refusals_have_their_codes() {
    let node = Node::new().await;
    node.register("s", &record(&json!([{ "name": "a", "type": "int" }]))).await;
    for (method, target, body, status, code, said) in [
        ("GET", "/subjects/no/versions", "", 404, 40401, "Subject 'no' not found."),
        ("GET", "/subjects/no/versions/1", "", 404, 40401, "'no'"),
        ("GET", "/subjects/s/versions/7", "", 404, 40402, "Version 7 not found."),
        ("GET", "/subjects/s/versions/0", "", 422, 42202, "not a valid version id"),
        ("GET", "/subjects/s/versions/x", "", 422, 42202, "'x'"),
        ("GET", "/schemas/ids/99", "", 404, 40403, "Schema 99 not found"),
        ("GET", "/schemas/ids/abc", "", 404, 404, "'abc' is no id of a schema"),
        ("GET", "/schemas/ids/4294967296", "", 404, 404, "'4294967296' is no id"),
        (
            "POST",
            "/subjects/i/versions",
            r#"{"schema":"\"int\"","id":2147483648}"#,
            400,
            400,
            "`id` is 2147483648, and 2147483647 at most",
        ),
        (
            "POST",
            "/compatibility/subjects/no/versions/7",
            r#"{"schema":"\"int\""}"#,
            404,
            40401,
            "'no'",
        ),
        ("GET", "/config/s", "", 404, 40408, "compatibility"),
        ("GET", "/mode/s", "", 404, 40409, "mode"),
        (
            "PUT",
            "/config",
            r#"{"compatibility":"SIDEWAYS"}"#,
            422,
            42203,
            "Invalid compatibility level",
        ),
        ("PUT", "/mode", r#"{"mode":"SIDEWAYS"}"#, 422, 42204, "Invalid mode"),
        ("POST", "/subjects/s/versions", "{", 400, 400, "cannot be read"),
        ("POST", "/subjects/s/versions", "{}", 422, 42201, "Empty schema"),
        ("POST", "/subjects/s/versions", r#"{"schema":"nonsense"}"#, 422, 42201, "Invalid schema"),
        (
            "POST",
            "/subjects/s/versions",
            r#"{"schema":"{}","schemaType":"XML"}"#,
            422,
            42201,
            "XML",
        ),
        ("POST", "/subjects/s/versions", r#"{"schema":"\"string\""}"#, 409, 409, "TYPE_MISMATCH"),
        ("POST", "/subjects/s", r#"{"schema":"\"string\""}"#, 404, 40403, "Schema not found"),
        ("POST", "/subjects/no", r#"{"schema":"\"string\""}"#, 404, 40401, "'no'"),
        ("DELETE", "/subjects/s?permanent=true", "", 404, 40405, "not deleted first"),
        ("GET", "/nothing", "", 404, 404, "no operation"),
        ("PUT", "/subjects", "", 405, 405, "GET"),
    ] {
        let (was, told) = node.send(method, target, body).await;
        assert_eq!((was, &told["error_code"]), (status, &json!(code)), "{method} {target} {told}");
        assert!(told["message"].as_str().unwrap().contains(said), "{method} {target} {told}");
    }
    let (status, _) = node.send("POST", "/subjects/s/versions", &"x".repeat(5 << 20)).await;
    assert_eq!(status, 413);
}

#[tokio::test]
async fn levels_and_modes_are_set_and_counted() {
    let node = Node::new().await;
    assert_eq!(node.get("/config").await, (200, json!({ "compatibilityLevel": "BACKWARD" })));
    let full = r#"{"compatibility":"full_transitive"}"#;
    let (_, said) = node.send("PUT", "/config/s", full).await;
    assert_eq!(said, json!({ "compatibility": "FULL_TRANSITIVE" }));
    assert_eq!(node.get("/config/s").await.1["compatibilityLevel"], "FULL_TRANSITIVE");
    assert_eq!(
        node.get("/config/t?defaultToGlobal=true").await.1["compatibilityLevel"],
        "BACKWARD"
    );
    node.register("s", &record(&json!([{ "name": "a", "type": "int" }]))).await;
    let wider = record(&json!([{ "name": "a", "type": "long" }]));
    let body = json!({ "schema": wider.to_string() }).to_string();
    let path = "/compatibility/subjects/s/versions/latest";
    assert_eq!(node.send("POST", path, &body).await, (200, json!({ "is_compatible": false })));
    let (_, said) = node.send("POST", &format!("{path}?verbose=true"), &body).await;
    let first = said["messages"][0].as_str().unwrap();
    assert!(first.contains("TYPE_MISMATCH") && first.contains("/fields/0/type"), "{first}");
    let path = "/compatibility/subjects/unknown/versions";
    assert_eq!(node.send("POST", path, &body).await, (200, json!({ "is_compatible": true })));
    let path = "/compatibility/subjects/unknown/versions/latest";
    assert_eq!(node.send("POST", path, &body).await, (200, json!({ "is_compatible": true })));
    let (_, said) = node.send("DELETE", "/config/s", "").await;
    assert_eq!(said, json!({ "compatibilityLevel": "FULL_TRANSITIVE" }));
    assert_eq!(node.register("s", &wider).await.0, 200);
    assert_eq!(node.get("/mode").await, (200, json!({ "mode": "READWRITE" })));
    node.send("PUT", "/mode/s?force=true", r#"{"mode":"READONLY"}"#).await;
    assert_eq!(node.get("/mode/s").await, (200, json!({ "mode": "READONLY" })));
    assert_eq!(node.register("s", &json!("string")).await.1["error_code"], 42205);
    assert_eq!(node.send("DELETE", "/mode/s", "").await, (200, json!({ "mode": "READONLY" })));
}
