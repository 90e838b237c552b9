//! What dead letters tell, also of what clients have made up.

use super::*;

fn died(queue: &str, reason: &str, raw: &[u8], rekeyed: bool) -> Vec<u8> {
    Death { queue, reason, exchange: "x", key: "k", time: 1_700_000_000, rekeyed }
        .properties(raw, Story::Whole)
        .unwrap()
}

fn counts(raw: &[u8]) -> Vec<(String, String, i64)> {
    let headers = Properties::parse(raw).unwrap().headers.unwrap();
    let text = |table: Table<'_>, name| table.get(name).unwrap().text().unwrap().to_owned();
    deaths(headers)
        .map(|entry| {
            let count = entry.get("count").unwrap().integer().unwrap();
            (text(entry, "queue"), text(entry, "reason"), count)
        })
        .collect()
}

#[test]
fn deaths_are_counted_by_queue_and_reason_newest_first() {
    let mut headers = Vec::new();
    TableWriter::new(&mut headers).text("mine", "kept").array("CC", |array| {
        array.value(Value::Long(b"copy"));
    });
    let mut raw = Vec::new();
    Properties {
        headers: Some(Table::parse(&headers[4..]).unwrap()),
        expiration: Some("200"),
        message_id: Some("m"),
        ..Properties::default()
    }
    .write(&mut raw);
    let once = died("q", "expired", &raw, false);
    let properties = Properties::parse(&once).unwrap();
    assert_eq!((properties.expiration, properties.message_id), (None, Some("m")));
    let found = properties.headers.unwrap();
    assert_eq!(found.get("mine"), Some(Value::Long(b"kept")));
    assert_eq!(copies(found, "CC").collect::<Vec<_>>(), ["copy"]);
    let entry = deaths(found).next().unwrap();
    assert_eq!(entry.get("original-expiration"), Some(Value::Long(b"200")));
    let Some(Value::Array(keys)) = entry.get("routing-keys") else { panic!("{entry:?}") };
    assert_eq!(keys.iter().count(), 2);

    let twice = died("p", "rejected", &once, true);
    let thrice = died("q", "expired", &twice, false);
    assert_eq!(
        counts(&thrice),
        [("q".into(), "expired".into(), 2), ("p".into(), "rejected".into(), 1)]
    );
    let found = Properties::parse(&thrice).unwrap().headers.unwrap();
    assert_eq!(found.get("x-first-death-queue"), Some(Value::Long(b"q")));
    assert_eq!(found.get("x-first-death-reason"), Some(Value::Long(b"expired")));
    assert_eq!(copies(found, "CC").count(), 0, "a new key leaves the copies behind");
}

#[test]
fn a_circle_without_a_rejection_ends() {
    let mut raw = vec![0, 0];
    for (queue, reason) in [("a", "expired"), ("b", "maxlen")] {
        raw = died(queue, reason, &raw, false);
    }
    let headers = |raw: &'static [u8]| Properties::parse(raw).unwrap().headers.unwrap();
    let table = headers(raw.clone().leak());
    assert!(is_cycle(table, "a") && is_cycle(table, "b") && !is_cycle(table, "c"));
    let rejected = headers(died("c", "rejected", &raw, false).leak());
    assert!(!is_cycle(rejected, "a"));
    assert!(!is_cycle(Table::EMPTY, "a"));
}

/// Properties with these headers.
fn with(fill: impl FnOnce(&mut TableWriter<'_>)) -> Vec<u8> {
    let mut headers = Vec::new();
    fill(&mut TableWriter::new(&mut headers));
    let headers = Some(Table::parse(&headers[4..]).unwrap());
    let mut raw = Vec::new();
    Properties { headers, ..Properties::default() }.write(&mut raw);
    raw
}

/// Every row has what RabbitMQ gives it, of the type it has there.
fn assert_sound(raw: &[u8]) {
    let headers = Properties::parse(raw).unwrap().headers.unwrap();
    let Some(Value::Array(array)) = headers.get("x-death") else { panic!("{headers:?}") };
    let mut seen = std::collections::HashSet::new();
    for value in array.iter() {
        let Value::Table(row) = value else { panic!("{value:?}") };
        assert!(matches!(row.get("count"), Some(Value::I64(1..))), "{row:?}");
        assert!(matches!(row.get("time"), Some(Value::Timestamp(_))), "{row:?}");
        assert!(matches!(row.get("exchange"), Some(Value::Long(_))), "{row:?}");
        let Some(Value::Array(keys)) = row.get("routing-keys") else { panic!("{row:?}") };
        assert!(keys.iter().all(|key| matches!(key, Value::Long(_))), "{row:?}");
        let text = |name| row.get(name).unwrap().text().unwrap().to_owned();
        assert!(seen.insert((text("queue"), text("reason"))), "twice: {row:?}");
        for name in ROW {
            assert!(row.iter().filter(|(known, _)| *known == name).count() <= 1, "{row:?}");
        }
    }
    for name in FIRST.into_iter().chain(LAST) {
        let said: Vec<_> = headers.iter().filter(|(known, _)| *known == name).collect();
        assert!(matches!(said[..], [(_, Value::Long(_))]), "{name}: {said:?}");
    }
}

#[test]
fn what_clients_make_up_is_made_sound() {
    let row = |fill: &dyn Fn(&mut TableWriter<'_>)| {
        with(|table| {
            table.array("x-death", |array| {
                array.table_value(|row| fill(row));
            });
        })
    };
    let base = |row: &mut TableWriter<'_>| {
        row.text("queue", "q").text("reason", "expired");
    };
    for (count, sound) in [
        (None, 1),
        (Some(Value::I64(3)), 3),
        (Some(Value::I32(3)), 3),
        (Some(Value::I64(0)), 1),
        (Some(Value::I64(-7)), 1),
        (Some(Value::I64(i64::MAX)), i64::MAX),
        (Some(Value::Long(b"3")), 1),
        (Some(Value::F64(3.0)), 1),
        (Some(Value::Void), 1),
        (Some(Value::Table(Table::EMPTY)), 1),
    ] {
        let raw = row(&|row| {
            base(row);
            if let Some(count) = count {
                row.entry("count", count);
            }
        });
        // In the queue that it tells of, and in another.
        let again = died("q", "expired", &raw, false);
        assert_sound(&again);
        assert_eq!(
            counts(&again),
            [("q".into(), "expired".into(), sound.saturating_add(1))],
            "{count:?}"
        );
        let other = died("p", "expired", &raw, false);
        assert_sound(&other);
        assert_eq!(counts(&other)[1], ("q".into(), "expired".into(), sound), "{count:?}");
    }
    // Every other field of every wrong type, missing, and said twice.
    for name in ROW {
        for wrong in [
            Some(Value::Void),
            Some(Value::I64(-1)),
            Some(Value::Bool(true)),
            Some(Value::Table(Table::EMPTY)),
            Some(Value::Array(Array::default())),
            Some(Value::Long(b"\xff\xfe")),
            None,
        ] {
            let raw = row(&|row| {
                for known in ROW {
                    let right = match known {
                        "count" => Value::I64(2),
                        "time" => Value::Timestamp(1),
                        "routing-keys" => Value::Array(Array::default()),
                        _ => Value::Long(b"t"),
                    };
                    match wrong {
                        Some(wrong) if known == name => row.entry(known, wrong),
                        None if known == name => row,
                        _ => row.entry(known, right).entry(known, Value::Void),
                    };
                }
                row.text("note", "the client's own");
            });
            for queue in ["t", "q"] {
                assert_sound(&died(queue, "t", &raw, false));
            }
        }
    }
    // No array, an array of anything, the header said twice.
    for wrong in [Value::Long(b"[{count: 1}]"), Value::Void, Value::I64(1)] {
        let dead = died(
            "q",
            "maxlen",
            &with(|table| {
                table.entry("x-death", wrong);
            }),
            false,
        );
        assert_sound(&dead);
        assert_eq!(counts(&dead), [("q".into(), "maxlen".into(), 1)]);
    }
    let raw = with(|table| {
        for _ in 0..2 {
            table.array("x-death", |array| {
                array
                    .value(Value::Void)
                    .value(Value::Long(b"x"))
                    .value(Value::Array(Array::default()));
            });
        }
    });
    assert_sound(&died("q", "maxlen", &raw, false));
}

#[test]
fn rows_of_one_queue_and_reason_are_one() {
    let raw = with(|table| {
        table.array("x-death", |array| {
            for count in [2, 3] {
                array.table_value(|row| {
                    row.text("queue", "q").text("reason", "expired");
                    row.entry("count", Value::I64(count));
                });
            }
        });
    });
    let dead = died("q", "expired", &raw, false);
    assert_eq!(counts(&dead), [("q".into(), "expired".into(), 6)]);
}

#[test]
fn the_first_and_the_last_death_are_told_and_not_made_up() {
    let text = |raw: &[u8], name: &str| {
        let headers = Properties::parse(raw).unwrap().headers.unwrap();
        headers.get(name).unwrap().text().unwrap().to_owned()
    };
    // It has not died before, whatever it says.
    let raw = with(|table| {
        for name in FIRST.into_iter().chain(LAST) {
            table.text(name, "made up").entry(name, Value::Void);
        }
    });
    let once = died("q", "expired", &raw, false);
    assert_sound(&once);
    assert_eq!(text(&once, "x-first-death-queue"), "q");
    assert_eq!(text(&once, "x-last-death-queue"), "q");
    let twice = died("p", "rejected", &once, false);
    assert_sound(&twice);
    assert_eq!(text(&twice, "x-first-death-queue"), "q");
    assert_eq!(text(&twice, "x-first-death-reason"), "expired");
    assert_eq!(text(&twice, "x-last-death-queue"), "p");
    assert_eq!(text(&twice, "x-last-death-reason"), "rejected");
    assert_eq!(text(&twice, "x-last-death-exchange"), "x");
}

#[test]
fn a_story_has_bounds() {
    let raw = with(|table| {
        table.array("x-death", |array| {
            for number in 0..5_000 {
                array.table_value(|row| {
                    row.text("queue", &format!("q{number}")).text("reason", "expired");
                });
            }
        });
    });
    let dead = died("q", "expired", &raw, false);
    assert_sound(&dead);
    let told = counts(&dead);
    assert_eq!(told.len(), ROWS_MAX);
    assert_eq!(told[1].0, "q0", "the oldest go first");
    // And what has no room for it goes on without.
    let death =
        Death { queue: "q", reason: "expired", exchange: "x", key: "k", time: 1, rekeyed: false };
    let last = death.properties(&raw, Story::Last).unwrap();
    assert_sound(&last);
    assert_eq!(counts(&last), [("q".into(), "expired".into(), 1)]);
    assert!(death.properties(&raw, Story::None).unwrap().len() <= raw.len());
}

#[test]
fn what_is_passed_on_is_passed_on_byte_for_byte() {
    let other = b"\x02\xe9\xffL\0\0\0\0\0\0\0\x07\x01tt\x05";
    let mut raw = vec![0x20, 0];
    raw.extend((other.len() as u32).to_be_bytes());
    raw.extend(other);
    let dead = died("q", "expired", &raw, false);
    let headers = Properties::parse(&dead).unwrap().headers.unwrap();
    assert!(headers.bytes().windows(other.len()).any(|window| window == other));
}

#[test]
fn a_row_that_no_broker_writes_ends_no_circle() {
    let dead = died("q", "expired", &[0, 0], false);
    let headers = Properties::parse(&dead).unwrap().headers.unwrap();
    assert!(is_cycle(headers, "q"));
    let raw = with(|table| {
        table.array("x-death", |array| {
            array.value(Value::Void);
            for row in deaths(headers) {
                array.value(Value::Table(row));
            }
        });
    });
    assert!(!is_cycle(Properties::parse(&raw).unwrap().headers.unwrap(), "q"));
}
