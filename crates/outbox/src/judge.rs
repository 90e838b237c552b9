//! Whether a server is the one that was read, and where to go on: a pure decision.

use crate::{fault::Fault, kept::Kept, lsn::Lsn};

/// A server as it says who it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// Number of its cluster.
    pub system: String,
    /// Its timeline.
    pub timeline: u32,
    /// Where its log ends.
    pub end: Lsn,
    /// Name of the database.
    pub database: String,
}

/// A slot as the server shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlotState {
    /// The output plugin.
    pub plugin: String,
    /// The database that it is of; empty for a physical one.
    pub database: String,
    /// Up to where it was confirmed; `None` while it is made.
    pub confirmed: Option<Lsn>,
    /// What the server says of the log that it needs: `reserved`, `extended`, `unreserved` or `lost`.
    pub wal_status: String,
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Make the slot.
    Create,
    /// Take the slot that is there: this node was making it.
    Adopt(Lsn),
    /// Read from a position on.
    Read {
        /// The position.
        from: Lsn,
        /// Whether the last transaction that was published must come first.
        proof: bool,
    },
}

/// Holds a server and its slot to what is kept.
///
/// # Errors
/// Why nothing may be read.
pub fn judge(
    kept: Option<&Kept>,
    server: &Server,
    slot: Option<&SlotState>,
) -> Result<Next, Fault> {
    let made = kept.filter(|kept| !kept.making);
    if let Some(made) = made {
        same(made, server)?;
    }
    // A slot that was being made on another server is none.
    let kept = kept.filter(|kept| same(kept, server).is_ok());
    let Some(slot) = slot else {
        return if made.is_some() { Err(Fault::SlotMissing) } else { Ok(Next::Create) };
    };
    if slot.plugin != "pgoutput" {
        let what = match &*slot.plugin {
            "" => "physical".to_owned(),
            plugin => format!("of the plugin {plugin}"),
        };
        return Err(Fault::SlotOther(what));
    }
    if slot.database != server.database {
        return Err(Fault::SlotOther(format!("of the database {}", slot.database)));
    }
    if slot.wal_status == "lost" {
        return Err(Fault::SlotLost("wal_status is lost".into()));
    }
    let confirmed = slot.confirmed.ok_or_else(|| {
        Fault::Setup("the slot is still being made: the server waits for transactions".into())
    })?;
    let kept = match (made, kept) {
        (Some(kept), _) => kept,
        (None, Some(_)) => return Ok(Next::Adopt(confirmed)),
        (None, None) => return Err(Fault::SlotUnknown(confirmed)),
    };
    if server.end < kept.end() {
        return Err(Fault::WentBack { server: server.end, kept: kept.end() });
    }
    if confirmed <= kept.base() {
        return Ok(Next::Read { from: kept.base(), proof: kept.done.is_some() });
    }
    match kept.told {
        // Nothing was there to be published up to what was told.
        Some(told) if confirmed <= told => Ok(Next::Read { from: confirmed, proof: false }),
        _ => {
            let kept = kept.base().max(kept.told.unwrap_or_default());
            Err(Fault::SlotMoved { slot: confirmed, kept })
        }
    }
}

/// Whether a server is the one that was read.
fn same(kept: &Kept, server: &Server) -> Result<(), Fault> {
    if kept.system != server.system {
        let (kept, found) = (kept.system.clone(), server.system.clone());
        return Err(Fault::OtherServer { kept, found });
    }
    if kept.database != server.database {
        let (kept, found) = (&kept.database, &server.database);
        return Err(Fault::OtherName(format!(
            "it reads database {found}, and its position is of database {kept}"
        )));
    }
    if kept.timeline != server.timeline {
        return Err(Fault::OtherTimeline { kept: kept.timeline, found: server.timeline });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kept::Mark;

    fn kept() -> Kept {
        Kept {
            system: "1".into(),
            timeline: 1,
            database: "shop".into(),
            slot: "weft".into(),
            making: false,
            start: Lsn(100),
            done: Some(Mark { commit: Lsn(200), end: Lsn(210), xid: 7, at: 1 }),
            part: None,
            told: None,
        }
    }

    fn server() -> Server {
        Server { system: "1".into(), timeline: 1, end: Lsn(1_000), database: "shop".into() }
    }

    fn slot(confirmed: u64) -> SlotState {
        SlotState {
            plugin: "pgoutput".into(),
            database: "shop".into(),
            confirmed: Some(Lsn(confirmed)),
            wal_status: "reserved".into(),
        }
    }

    #[test]
    fn what_is_known_goes_on_and_what_is_not_stands_still() {
        let read = |from, proof| Ok(Next::Read { from: Lsn(from), proof });
        let making = Kept { making: true, done: None, ..kept() };
        let fresh = Kept { done: None, ..kept() };
        let told = Kept { told: Some(Lsn(500)), ..kept() };
        let moved = |slot, kept| Err(Fault::SlotMoved { slot: Lsn(slot), kept: Lsn(kept) });
        for (kept, slot, expect) in [
            (None, None, Ok(Next::Create)),
            (None, Some(slot(50)), Err(Fault::SlotUnknown(Lsn(50)))),
            (Some(&making), None, Ok(Next::Create)),
            (Some(&making), Some(slot(50)), Ok(Next::Adopt(Lsn(50)))),
            (Some(&fresh), Some(slot(100)), read(100, false)),
            (Some(&fresh), Some(slot(101)), moved(101, 100)),
            (Some(&kept()), None, Err(Fault::SlotMissing)),
            (Some(&kept()), Some(slot(150)), read(200, true)),
            (Some(&kept()), Some(slot(200)), read(200, true)),
            (Some(&kept()), Some(slot(300)), moved(300, 200)),
            (Some(&told), Some(slot(200)), read(200, true)),
            (Some(&told), Some(slot(500)), read(500, false)),
            (Some(&told), Some(slot(501)), moved(501, 500)),
        ] {
            assert_eq!(judge(kept, &server(), slot.as_ref()), expect, "{kept:?} {slot:?}");
        }
    }

    #[test]
    fn another_server_or_an_older_one_is_not_read() {
        let words = |server: Server, slot: SlotState| {
            judge(Some(&kept()), &server, Some(&slot)).map_err(|fault| fault.word())
        };
        let making = Kept { making: true, done: None, ..kept() };
        let elsewhere = Server { system: "2".into(), ..server() };
        assert_eq!(judge(Some(&making), &elsewhere, None), Ok(Next::Create));
        let unknown = Err(Fault::SlotUnknown(Lsn(200)));
        assert_eq!(judge(Some(&making), &elsewhere, Some(&slot(200))), unknown);
        let of = |change: fn(&mut Server)| {
            let mut server = server();
            change(&mut server);
            words(server, slot(200))
        };
        assert_eq!(of(|server| server.system = "2".into()), Err("other_server"));
        assert_eq!(of(|server| server.timeline = 2), Err("other_timeline"));
        assert_eq!(of(|server| server.database = "x".into()), Err("other_name"));
        assert_eq!(of(|server| server.end = Lsn(205)), Err("log_went_back"));
        let lost = SlotState { wal_status: "lost".into(), confirmed: None, ..slot(1) };
        assert_eq!(words(server(), lost), Err("slot_lost"));
        let other = SlotState { plugin: "test_decoding".into(), ..slot(1) };
        assert_eq!(words(server(), other), Err("slot_other"));
        let other = SlotState { database: "x".into(), ..slot(1) };
        assert_eq!(words(server(), other), Err("slot_other"));
    }
}
