//! What the registry promises, case by case.

use std::sync::Arc;

use weft_kernel::{ByteSize, SystemClock};
use weft_ledger::{Ledger, Options, disk::SimulatedDisk};
use weft_schemas::{
    Deleted, Draft, Format, Level, Mode, Reference, Registry, SubjectSettings, Which,
};

pub(crate) struct Opened {
    ledger: Ledger,
    pub(crate) registry: Registry,
}

impl Opened {
    async fn on(disk: &SimulatedDisk) -> Self {
        let options = Options { wal_file_bytes: ByteSize(1 << 22), ..Options::default() };
        let disk = Arc::new(disk.clone());
        let (ledger, _) = Ledger::open(disk, options, Arc::new(SystemClock)).unwrap();
        ledger.start().unwrap();
        let registry =
            Registry::open(Arc::new(ledger.namespace("schemas").unwrap())).await.unwrap();
        Self { ledger, registry }
    }

    pub(crate) async fn new() -> Self {
        Self::on(&SimulatedDisk::default()).await
    }

    /// Registers a schema; gives its id and version.
    async fn put(&self, subject: &str, draft: &Draft) -> Result<(u32, u32), u32> {
        let done = self.registry.register(subject, draft).await;
        done.map(|one| (one.schema.id, one.version)).map_err(|error| error.code())
    }
}

impl Drop for Opened {
    fn drop(&mut self) {
        let _ = self.ledger.close();
    }
}

pub(crate) fn draft(format: Format, text: &str) -> Draft {
    Draft { format, text: text.to_owned(), ..Draft::default() }
}

fn avro(text: &str) -> Draft {
    draft(Format::Avro, text)
}

fn record(fields: &str) -> Draft {
    avro(&format!(r#"{{"type":"record","name":"R","fields":[{fields}]}}"#))
}

const A: &str = r#"{"name":"a","type":"int"}"#;
const A_B: &str = r#"{"name":"a","type":"int"},{"name":"b","type":"int"}"#;
const A_B_DEFAULT: &str = r#"{"name":"a","type":"int"},{"name":"b","type":"int","default":0}"#;

#[tokio::test]
async fn the_same_schema_has_one_id_everywhere() {
    let disk = SimulatedDisk::default();
    let it = Opened::on(&disk).await;
    assert_eq!(it.put("one", &record(A)).await, Ok((1, 1)));
    assert_eq!(it.put("one", &record(A)).await, Ok((1, 1)));
    let spaced = avro(
        "{ \"name\": \"R\", \"type\": \"record\", \"fields\": [{\"type\":\"int\",\"name\":\"a\"}] }",
    );
    assert_eq!(it.put("two", &spaced).await, Ok((1, 1)));
    assert_eq!(it.put("two", &record(A_B_DEFAULT)).await, Ok((2, 2)));
    assert_eq!(it.put("three", &draft(Format::Json, r#"{"type":"object"}"#)).await, Ok((3, 1)));
    let uses = it.registry.uses(1, Deleted::Hidden).await.unwrap();
    assert_eq!(uses, [("one".to_owned(), 1), ("two".to_owned(), 1)]);
    assert_eq!(it.registry.subjects("t", Deleted::Hidden).await.unwrap(), ["three", "two"]);
    let found = it.registry.lookup("two", &spaced, Deleted::Hidden).await.unwrap();
    assert_eq!((found.version, found.schema.id), (1, 1));
    assert_eq!(
        it.registry.lookup("one", &record(A_B), Deleted::Hidden).await.unwrap_err().code(),
        40403
    );
    assert_eq!(
        it.registry.lookup("no", &record(A), Deleted::Hidden).await.unwrap_err().code(),
        40401
    );
    drop(it);
    let again = Opened::on(&disk).await;
    assert_eq!(again.put("one", &record(A)).await, Ok((1, 1)));
    assert_eq!(again.put("four", &avro("\"int\"")).await, Ok((4, 1)));
}

#[tokio::test]
async fn a_level_is_held_to_and_says_where() {
    let it = Opened::new().await;
    // What has no versions is fitted by anything that is a schema.
    for which in [None, Some(Which::Latest)] {
        assert!(it.registry.check("s", which, &record(A)).await.unwrap().is_empty());
        let code = it.registry.check("s", which, &avro("wat")).await.unwrap_err().code();
        assert_eq!(code, 42201);
    }
    let code = it.registry.check("s", Some(Which::Number(1)), &record(A)).await.unwrap_err().code();
    assert_eq!(code, 40401);
    it.put("s", &record(A)).await.unwrap();
    let refused = it.registry.register("s", &record(A_B)).await.unwrap_err();
    assert_eq!(refused.code(), 409);
    let said = refused.to_string();
    for part in
        ["READER_FIELD_MISSING_DEFAULT_VALUE", "/fields/1", "oldSchemaVersion: 1", "'BACKWARD'"]
    {
        assert!(said.contains(part), "{said}");
    }
    assert_eq!(it.put("s", &record(A_B_DEFAULT)).await, Ok((2, 2)));
    // Against the latest it fits, against all it does not.
    assert_eq!(it.put("s", &record(A_B)).await, Ok((3, 3)));
    let level = |level| SubjectSettings { level: Some(level), ..SubjectSettings::default() };
    it.registry.set(Some("s"), level(Level::BackwardTransitive)).await.unwrap();
    let c = format!(r#"{A_B},{{"name":"c","type":"int","default":1}}"#);
    assert_eq!(it.put("s", &record(&c)).await, Err(409));
    let details = it.registry.check("s", None, &record(&c)).await.unwrap();
    assert!(details.iter().any(|one| one.contains("oldSchemaVersion: 1")), "{details:?}");
    let latest = it.registry.check("s", Some(Which::Latest), &record(&c)).await.unwrap();
    assert!(latest.is_empty(), "{latest:?}");
    it.registry.set(None, level(Level::None)).await.unwrap();
    assert_eq!(it.put("s", &record(&c)).await, Err(409));
    it.registry.unset_level(Some("s")).await.unwrap();
    assert_eq!(it.put("s", &avro("\"string\"")).await, Ok((4, 4)));
    assert_eq!(it.registry.unset_level(Some("s")).await.unwrap_err().code(), 40408);
}

#[tokio::test]
async fn deleting_is_done_twice() {
    let it = Opened::new().await;
    it.put("s", &record(A)).await.unwrap();
    it.put("s", &record(A_B_DEFAULT)).await.unwrap();
    let code = |outcome: Result<u32, weft_schemas::Error>| outcome.map_err(|error| error.code());
    let delete = async |version, for_good| {
        code(it.registry.delete_version("s", Which::Number(version), for_good).await)
    };
    assert_eq!(delete(1, true).await, Err(40407));
    assert_eq!(delete(1, false).await, Ok(1));
    assert_eq!(delete(1, false).await, Err(40406));
    assert_eq!(delete(9, false).await, Err(40402));
    assert_eq!(it.registry.versions("s", Deleted::Hidden).await.unwrap(), [2]);
    assert_eq!(it.registry.versions("s", Deleted::Shown).await.unwrap(), [1, 2]);
    assert_eq!(it.registry.versions("s", Deleted::Only).await.unwrap(), [1]);
    assert_eq!(delete(1, true).await, Ok(1));
    assert_eq!(it.registry.schema(1).await.unwrap_err().code(), 40403);
    let subject = async |for_good| {
        it.registry.delete_subject("s", for_good).await.map_err(|error| error.code())
    };
    assert_eq!(subject(true).await, Err(40405));
    assert_eq!(subject(false).await, Ok(vec![2]));
    assert_eq!(subject(false).await, Err(40404));
    assert_eq!(it.registry.versions("s", Deleted::Hidden).await.unwrap_err().code(), 40401);
    assert!(it.registry.subjects("", Deleted::Hidden).await.unwrap().is_empty());
    assert_eq!(it.registry.subjects("", Deleted::Shown).await.unwrap(), ["s"]);
    assert_eq!(it.put("s", &record(A_B_DEFAULT)).await, Ok((2, 3)));
    assert_eq!(subject(false).await, Ok(vec![3]));
    assert_eq!(subject(true).await, Ok(vec![2, 3]));
    assert_eq!(subject(true).await, Err(40401));
    assert_eq!(it.put("s", &record(A)).await, Ok((3, 1)));
}

#[tokio::test]
async fn references_hold_what_they_refer_to() {
    let it = Opened::new().await;
    let other = avro(r#"{"type":"record","name":"Other","fields":[]}"#);
    let to = |version| Reference { name: "Other".into(), subject: "other".into(), version };
    let using = Draft { references: vec![to(-1)], ..record(r#"{"name":"o","type":"Other"}"#) };
    assert_eq!(it.put("using", &using).await, Err(42201));
    it.put("other", &other).await.unwrap();
    assert_eq!(it.put("using", &using).await, Ok((2, 1)));
    let exact = Draft { references: vec![to(1)], ..using.clone() };
    assert_eq!(it.put("using", &exact).await, Ok((2, 1)));
    assert_eq!(it.registry.referrers("other", Which::Number(1)).await.unwrap(), [2]);
    let code = it.registry.delete_subject("other", false).await.unwrap_err().code();
    assert_eq!(code, 42206);
    let wider = format!("{A},{}", r#"{"name":"o","type":"Other","default":{}}"#);
    let wider = Draft { references: vec![to(1)], ..record(&wider) };
    assert_eq!(it.put("using", &wider).await, Err(409));
    it.registry.delete_subject("using", false).await.unwrap();
    it.registry.delete_subject("using", true).await.unwrap();
    it.registry.delete_subject("other", false).await.unwrap();
    let proto = |text: &str| draft(Format::Protobuf, &format!("syntax = \"proto3\"; {text}"));
    it.put("money.proto", &proto("message Money { int64 cents = 1; }")).await.unwrap();
    let money = Reference { name: "money.proto".into(), subject: "money.proto".into(), version: 1 };
    let order = proto("import \"money.proto\"; message Order { Money total = 1; }");
    let order = Draft { references: vec![money], ..order };
    it.put("order", &order).await.unwrap();
    it.registry.lookup("order", &order, Deleted::Hidden).await.unwrap();
}

#[tokio::test]
async fn modes_decide_what_may_be_registered() {
    let it = Opened::new().await;
    let mode = |mode| SubjectSettings { mode: Some(mode), ..SubjectSettings::default() };
    it.put("s", &record(A)).await.unwrap();
    it.registry.set(Some("s"), mode(Mode::ReadOnly)).await.unwrap();
    assert_eq!(it.put("s", &record(A)).await, Ok((1, 1)));
    assert_eq!(it.put("s", &record(A_B_DEFAULT)).await, Err(42205));
    assert_eq!(it.registry.delete_subject("s", false).await.unwrap_err().code(), 42205);
    assert_eq!(it.put("t", &avro("\"int\"")).await, Ok((2, 1)));
    it.registry.unset_mode("s").await.unwrap();
    assert_eq!(it.registry.unset_mode("s").await.unwrap_err().code(), 40409);
    let given = Draft { id: Some(70), version: Some(7), ..avro("\"long\"") };
    assert_eq!(it.put("i", &given).await, Err(42205));
    it.registry.set(Some("i"), mode(Mode::Import)).await.unwrap();
    assert_eq!(it.put("i", &given).await, Ok((70, 7)));
    assert_eq!(it.put("i", &Draft { id: Some(1), ..avro("\"double\"") }).await, Err(42205));
    assert_eq!(it.put("t", &avro("[\"int\",\"null\"]")).await, Ok((71, 2)));
    let last = Draft { id: Some(i32::MAX as u32), ..avro("\"double\"") };
    let refused = it.registry.register("i", &last).await.unwrap_err();
    assert_eq!(refused.code(), 42205);
    assert!(refused.to_string().contains("id 2147483647"), "{refused}");
    it.registry.set(None, mode(Mode::ReadOnlyOverride)).await.unwrap();
    assert_eq!(it.put("i", &Draft { id: Some(80), ..avro("\"double\"") }).await, Err(42205));
}

#[tokio::test]
async fn what_cannot_be_is_refused() {
    let it = Opened::new().await;
    for subject in ["", "a\0b", "a\nb", "__GLOBAL", &"x".repeat(600)] {
        assert_eq!(it.put(subject, &record(A)).await, Err(42208), "{subject:?}");
    }
    assert_eq!(it.put("s", &avro(&" ".repeat(1_000_001))).await, Err(42201));
    assert_eq!(it.put("s", &avro("nonsense")).await, Err(42201));
    assert_eq!(it.registry.schema(7).await.unwrap_err().code(), 40403);
    assert!(it.registry.subjects("", Deleted::Shown).await.unwrap().is_empty());
    for (text, code) in [("0", 42202), ("x", 42202), ("-2", 42202), ("4294967295", 42202)] {
        assert_eq!(Which::read(text).unwrap_err().code(), code);
    }
    assert_eq!(Which::read("-1").unwrap(), Which::Latest);
}

/// A hundred who register a handful of schemas at once get one id for each.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn those_who_register_at_once_agree() {
    let it = Opened::new().await;
    let texts = ["\"int\"", "\"long\"", "\"string\"", "\"bytes\"", "\"null\""];
    let all = (0..100).map(|at| {
        let (registry, text) = (it.registry.clone(), texts[at % texts.len()]);
        async move {
            let subject = format!("s{at}");
            registry.register(&subject, &avro(text)).await.unwrap().schema.id
        }
    });
    let mut set = tokio::task::JoinSet::new();
    all.for_each(|one| drop(set.spawn(one)));
    let mut ids = set.join_all().await;
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids, [1, 2, 3, 4, 5]);
    assert_eq!(it.registry.subjects("", Deleted::Hidden).await.unwrap().len(), 100);
}
