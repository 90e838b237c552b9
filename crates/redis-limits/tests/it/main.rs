//! A store over a server that follows a script: what it sends, and what comes of answers, silence and lies.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    num::NonZeroU64,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
        mpsc,
    },
    thread,
    time::Duration,
};

use weft_kernel::Name;
use weft_net::client::System;
use weft_redis_limits::{Options, RedisLimits};
use weft_resilience::rate::{
    Rate,
    shared::{Answer, Ask, Question, Reply, Store as _},
};

const PATIENCE: Duration = Duration::from_secs(30);

/// A server that answers each command with what the script makes of it; `None` is silence.
fn server(script: impl Fn(&[String]) -> Option<String> + Send + 'static) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let stream = stream.unwrap();
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            while let Some(command) = command(&mut reader) {
                if let Some(answer) = script(&command)
                    && (&stream).write_all(answer.as_bytes()).is_err()
                {
                    break;
                }
            }
        }
    });
    port
}

/// A server that closes a connection where the script has no answer, and counts that.
fn closing(
    script: impl Fn(&[String]) -> Option<String> + Send + 'static,
) -> (u16, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let closed = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&closed);
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut reader = BufReader::new(stream.unwrap());
            while let Some(command) = command(&mut reader)
                && let Some(answer) = script(&command)
            {
                reader.get_ref().write_all(answer.as_bytes()).unwrap();
            }
            drop(reader);
            count.fetch_add(1, Relaxed);
        }
    });
    (port, closed)
}

/// One command of the protocol, as a list of texts.
fn command(from: &mut BufReader<TcpStream>) -> Option<Vec<String>> {
    let mut line = String::new();
    from.read_line(&mut line).ok().filter(|read| *read > 0)?;
    let count: usize = line.trim().strip_prefix('*')?.parse().ok()?;
    (0..count)
        .map(|_| {
            let mut line = String::new();
            from.read_line(&mut line).ok()?;
            let length: usize = line.trim().strip_prefix('$')?.parse().ok()?;
            let mut bytes = vec![0; length + 2];
            from.read_exact(&mut bytes).ok()?;
            bytes.truncate(length);
            String::from_utf8(bytes).ok()
        })
        .collect()
}

fn options(port: u16) -> Options {
    Options {
        name: Name::new("shared").unwrap(),
        host: "127.0.0.1".into(),
        port,
        tls: false,
        username: None,
        password: Some("secret".into()),
        database: 3,
        timeout: Duration::from_millis(500),
        prefix: "p:".into(),
    }
}

struct Told(mpsc::SyncSender<Option<Answer>>);

impl Reply for Told {
    fn answered(self: Box<Self>, answer: Answer) {
        self.0.send(Some(answer)).unwrap();
    }
}

impl Drop for Told {
    fn drop(&mut self) {
        let _ = self.0.send(None);
    }
}

/// A store that runs on a thread of its own.
fn running(options: Options) -> Arc<RedisLimits> {
    let store = Arc::new(RedisLimits::new(options, Arc::new(System), None));
    let shared = Arc::clone(&store);
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(shared.run());
    });
    store
}

/// Asks, and gives the answer, or that there is none.
fn ask(store: &RedisLimits) -> Option<Answer> {
    let (told, answers) = mpsc::sync_channel(1_024);
    let rate = Rate::new(NonZeroU64::new(60).unwrap(), Duration::from_secs(60));
    let ask = Ask { units: 10, least: 2, charge: -3 };
    store.ask(Question::new([0xab; 16], rate, ask, Box::new(Told(told))));
    answers.recv_timeout(PATIENCE).unwrap()
}

fn until(what: &str, condition: impl Fn() -> bool) {
    let began = std::time::Instant::now();
    while !condition() {
        assert!(began.elapsed() < PATIENCE, "{what}");
        thread::yield_now();
    }
}

/// A server that lets everybody in, and answers scripts so.
fn answering(script: &'static str) -> (u16, mpsc::Receiver<Vec<String>>) {
    let (seen, commands) = mpsc::sync_channel(1_024);
    let port = server(move |command| {
        let _ = seen.send(command.to_vec());
        Some(match &*command[0] {
            "PING" => "+PONG\r\n".into(),
            "EVALSHA" => script.into(),
            _ => "+OK\r\n".into(),
        })
    });
    (port, commands)
}

#[test]
fn a_question_is_one_script_over_one_key() {
    let (port, commands) = answering("*4\r\n:7\r\n:50\r\n:1500000\r\n:250\r\n");
    let store = running(options(port));
    until("it is connected", || !store.is_away());
    let (reset, retry_after) = (Duration::from_millis(1_500), Duration::from_micros(250));
    assert_eq!(ask(&store), Some(Answer { units: 7, left: 50, reset, retry_after }));
    let all: Vec<Vec<String>> = commands.try_iter().collect();
    let find = |word: &str| all.iter().find(|command| command[0] == word).unwrap();
    assert_eq!(find("AUTH")[1..], ["secret"]);
    assert_eq!(find("SELECT")[1..], ["3"]);
    let script = find("EVALSHA");
    assert_eq!(script[2..4], ["1".to_owned(), format!("p:{}", "ab".repeat(16))]);
    let numbers: Vec<f64> = script[4..].iter().map(|text| text.parse().unwrap()).collect();
    assert_eq!(numbers, [1_000_000.0, 60.0, 10.0, 2.0, -3.0]);
    assert_eq!(store.counts(), (1, 0));
}

#[test]
fn a_server_that_gives_more_than_was_asked_for_is_not_believed() {
    let (port, _commands) = answering("*4\r\n:999\r\n:50\r\n:0\r\n:0\r\n");
    let store = running(options(port));
    until("it is connected", || !store.is_away());
    assert_eq!(ask(&store).unwrap().units, 10);
}

#[test]
fn what_is_no_answer_is_told_and_ends_the_connection() {
    for answer in ["-OOM command not allowed\r\n", "*1\r\n:1\r\n", "+what\r\n", "?\r\n"] {
        let (port, _commands) = answering(answer);
        let store = running(options(port));
        until("it is connected", || !store.is_away());
        assert_eq!(ask(&store), None, "{answer}");
        assert_eq!(store.counts().0, 0);
    }
}

#[test]
fn an_error_of_one_question_is_no_error_of_the_others() {
    for error in ["-WRONGTYPE Operation against a key\r\n", "-ERR of a script\r\n"] {
        let (seen, commands) = mpsc::sync_channel(1_024);
        let answer = "*4\r\n:7\r\n:50\r\n:0\r\n:0\r\n";
        let asked = AtomicUsize::new(0);
        let port = server(move |command| {
            let _ = seen.send(command[0].clone());
            Some(match &*command[0] {
                "PING" => "+PONG\r\n".into(),
                "EVALSHA" => match asked.fetch_add(1, Relaxed) {
                    0 => error.into(),
                    _ => answer.into(),
                },
                _ => "+OK\r\n".into(),
            })
        });
        let store = running(options(port));
        until("it is connected", || !store.is_away());
        assert_eq!(ask(&store), None, "{error}");
        assert!(!store.is_away(), "{error}");
        assert_eq!(ask(&store).unwrap().units, 7, "{error}");
        assert_eq!(store.counts(), (1, 1));
        let opened = commands.try_iter().filter(|command| command == "AUTH").count();
        assert_eq!(opened, 1, "one connection carries all");
    }
}

#[test]
fn a_reply_without_an_end_ends_the_connection() {
    let endless = "a".repeat(200_000);
    let port = server(move |command| {
        Some(match &*command[0] {
            "PING" => "+PONG\r\n".into(),
            "EVALSHA" => format!("+{endless}"),
            _ => "+OK\r\n".into(),
        })
    });
    // It is told long before the time for an answer is over.
    let store = running(Options { timeout: PATIENCE * 2, ..options(port) });
    until("it is connected", || !store.is_away());
    assert_eq!(ask(&store), None);
}

#[test]
fn after_a_connection_was_closed_the_next_question_has_an_answer() {
    let answer = "*4\r\n:7\r\n:50\r\n:0\r\n:0\r\n";
    let asked = AtomicUsize::new(0);
    // After each answer the next command, which is a ping, finds the connection closed.
    let (port, closed) = closing(move |command| match &*command[0] {
        "PING" if asked.load(Relaxed) % 2 == 1 => {
            asked.fetch_add(1, Relaxed);
            None
        }
        "PING" => Some("+PONG\r\n".into()),
        "EVALSHA" => {
            asked.fetch_add(1, Relaxed);
            Some(answer.into())
        }
        _ => Some("+OK\r\n".into()),
    });
    let store = running(Options { timeout: PATIENCE, ..options(port) });
    until("it is connected", || !store.is_away());
    for round in 1..4 {
        assert_eq!(ask(&store).unwrap().units, 7, "{round}");
        until("it is closed", || closed.load(Relaxed) == round);
        assert!(!store.is_away(), "{round}");
    }
}

#[test]
fn silence_is_told_in_time_and_while_it_is_away_nobody_waits() {
    let port = server(|command| match &*command[0] {
        "EVALSHA" => None,
        "PING" => Some("+PONG\r\n".into()),
        _ => Some("+OK\r\n".into()),
    });
    let store = running(Options { timeout: Duration::from_millis(20), ..options(port) });
    until("it is connected", || !store.is_away());
    assert_eq!(ask(&store), None);
    // A port at which nobody listens.
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let store = running(options(nobody));
    assert_eq!(ask(&store), None);
    assert!(store.is_away() && store.counts() == (0, 1));
}

#[test]
fn whoever_is_not_let_in_stays_away() {
    let (seen, commands) = mpsc::sync_channel(1_024);
    let port = server(move |command| {
        let _ = seen.send(command[0].clone());
        Some("-WRONGPASS invalid username-password pair\r\n".into())
    });
    let store = running(options(port));
    // It tries again, and is away meanwhile.
    for _ in 0..2 {
        let connected = || commands.recv_timeout(PATIENCE).unwrap() == "AUTH";
        while !connected() {}
    }
    assert!(store.is_away());
    assert_eq!(ask(&store), None);
}
