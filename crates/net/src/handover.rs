//! A new process takes the listening sockets of the running one over, so that no connection is refused.
//!
//! The running process offers them on a Unix socket. The new one takes them (SCM_RIGHTS: both then
//! hold the very same sockets and queues), accepts on them, and says that it is ready; only then does
//! the old one stop accepting and drain. If the new one dies first, the old one goes on as before.
//!
//! The protocol, version 1, all numbers big-endian:
//!
//! ```text
//! new → old   "weft" u16:version
//! old → new   "weft" u16:version  u16:count  count × ( u16:name length, with 1 descriptor; name )
//! new → old   'R'    when it accepts
//! old → new   'D'    it drains from now on
//! ```
//!
//! Invariants: the socket's file is open to its owner alone, and both sides check that the other
//! process belongs to the same user or to root.

use std::{
    fs, io,
    io::{IoSlice, IoSliceMut},
    mem::MaybeUninit,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::fs::PermissionsExt,
    },
    path::{Path, PathBuf},
    time::Duration,
};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, Interest},
    net::{UnixListener, UnixStream},
    time::timeout,
};
use weft_kernel::{Error, Reason, Result, limits::NAME_BYTES_MAX};

const MAGIC: &[u8; 4] = b"weft";
const VERSION: u16 = 1;
const READY: u8 = b'R';
const DRAINS: u8 = b'D';
/// The most sockets in one handover.
pub const SOCKETS_MAX: usize = 4096;
/// The time one step of the exchange may take; becoming ready has a time of its own.
const STEP_TIME: Duration = Duration::from_secs(5);

/// The place where a running process offers its listening sockets.
#[derive(Debug)]
pub struct Offer {
    listener: UnixListener,
    path: PathBuf,
}

impl Offer {
    /// Opens the place, in the stead of a process that offered there before.
    pub fn bind(path: &Path) -> Result<Self> {
        let fail = |error: io::Error| {
            Error::new(
                Reason::Misconfigured,
                format!("cannot offer a handover on {}: {error}", path.display()),
            )
        };
        // Made aside and moved into place, so that the path leads to a live process at all times.
        let mut aside = path.as_os_str().to_owned();
        aside.push(format!(".{}", std::process::id()));
        let aside = PathBuf::from(aside);
        let listener = private(&aside)
            .and_then(|listener| fs::rename(&aside, path).map(|()| listener))
            .map_err(|error| {
                // What is left of a failed attempt; its own failure would say nothing new.
                let _ = fs::remove_file(&aside);
                fail(error)
            })?;
        let listener = UnixListener::from_std(listener.into()).map_err(fail)?;
        Ok(Self { listener, path: path.to_owned() })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Waits for a successor, hands it `sockets`, and returns once it is ready: now drain.
    ///
    /// A successor that fails on the way, or is not ready within `ready_time`, is reported in the
    /// log, and the next one is waited for. Cancel-safe but for a successor that is being served.
    pub async fn taken(
        &self,
        sockets: impl Fn() -> Result<Vec<(String, OwnedFd)>>,
        ready_time: Duration,
    ) -> Result<()> {
        loop {
            let (stream, _) = self.listener.accept().await.map_err(|error| {
                Error::new(Reason::Internal, "the handover socket failed").because(error)
            })?;
            match serve(stream, &sockets, ready_time).await {
                Ok(()) => return Ok(()),
                Err(error) => {
                    tracing::warn!(error = error.detail(), "a handover failed; serving on");
                }
            }
        }
    }
}

fn private(path: &Path) -> io::Result<socket2::Socket> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let socket = socket2::Socket::new(socket2::Domain::UNIX, socket2::Type::STREAM, None)?;
    rustix::fs::fchmod(&socket, rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR)?;
    socket.bind(&socket2::SockAddr::unix(path)?)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
    socket.set_nonblocking(true)?;
    socket.listen(4)?;
    Ok(socket)
}

async fn serve(
    mut stream: UnixStream,
    sockets: &impl Fn() -> Result<Vec<(String, OwnedFd)>>,
    ready_time: Duration,
) -> Result<()> {
    trusted(&stream)?;
    step(read_hello(&mut stream)).await?;
    let sockets = sockets()?;
    if sockets.len() > SOCKETS_MAX {
        return Err(Error::new(Reason::Internal, "too many sockets for one handover"));
    }
    step(async {
        stream.write_all(&hello()).await?;
        stream.write_u16(sockets.len() as u16).await?;
        for (name, socket) in &sockets {
            send_with(&stream, &(name.len() as u16).to_be_bytes(), socket.as_fd()).await?;
            stream.write_all(name.as_bytes()).await?;
        }
        Ok(())
    })
    .await?;
    let ready = timeout(ready_time, stream.read_u8())
        .await
        .map_err(|error| failed("the successor did not become ready in time").because(error))?
        .map_err(|error| failed("the successor ended before it was ready").because(error))?;
    if ready != READY {
        return Err(failed("the successor broke the protocol"));
    }
    // It accepts already, so it no longer matters whether it hears that.
    let _ = step(async { stream.write_u8(DRAINS).await }).await;
    Ok(())
}

/// The sockets of the former process, which goes on until [`Inheritance::ready`].
#[derive(Debug)]
pub struct Inheritance {
    /// Each socket with the name it was offered under; a name may come several times.
    pub sockets: Vec<(String, OwnedFd)>,
    stream: UnixStream,
}

/// Takes the sockets that are offered at `path`; `None` if nobody offers any there.
pub async fn take(path: &Path) -> Result<Option<Inheritance>> {
    let mut stream = match timeout(STEP_TIME, UnixStream::connect(path)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error))
            if matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused
            ) =>
        {
            return Ok(None);
        }
        Ok(Err(error)) => {
            return Err(failed("the running process cannot be reached")
                .at(path.display().to_string())
                .because(error));
        }
        Err(error) => return Err(failed("the running process does not answer").because(error)),
    };
    trusted(&stream)?;
    step(async { stream.write_all(&hello()).await }).await?;
    step(read_hello(&mut stream)).await?;
    let count = usize::from(step(stream.read_u16()).await?);
    if count > SOCKETS_MAX {
        return Err(failed("the running process broke the protocol"));
    }
    let mut sockets = Vec::with_capacity(count);
    for _ in 0..count {
        sockets.push(step(receive(&mut stream)).await?);
    }
    Ok(Some(Inheritance { sockets, stream }))
}

impl Inheritance {
    /// Tells the former process to drain: call it once every socket is accepted from.
    pub async fn ready(mut self) -> Result<()> {
        let answer = step(async {
            self.stream.write_u8(READY).await?;
            self.stream.read_u8().await
        })
        .await?;
        if answer == DRAINS {
            Ok(())
        } else {
            Err(failed("the running process broke the protocol"))
        }
    }
}

async fn receive(stream: &mut UnixStream) -> io::Result<(String, OwnedFd)> {
    let mut length = [0; 2];
    let (mut got, socket) = receive_with(stream, &mut length).await?;
    while got < length.len() {
        let count = stream.read(&mut length[got..]).await?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        got += count;
    }
    let length = usize::from(u16::from_be_bytes(length));
    let invalid = |what| io::Error::new(io::ErrorKind::InvalidData, what);
    if length > NAME_BYTES_MAX {
        return Err(invalid("a name is too long"));
    }
    let mut name = vec![0; length];
    stream.read_exact(&mut name).await?;
    let name = String::from_utf8(name)
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
    let socket = socket.ok_or_else(|| invalid("a socket is missing"))?;
    Ok((name, socket))
}

/// Sends a few bytes with a descriptor; it arrives with the first of them.
async fn send_with(stream: &UnixStream, bytes: &[u8], socket: BorrowedFd<'_>) -> io::Result<()> {
    let sent = stream
        .async_io(Interest::WRITABLE, || {
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
            let mut control = SendAncillaryBuffer::new(&mut space);
            let descriptors = [socket];
            if !control.push(SendAncillaryMessage::ScmRights(&descriptors)) {
                return Err(io::Error::other("no room for a descriptor"));
            }
            Ok(rustix::net::sendmsg(
                stream,
                &[IoSlice::new(bytes)],
                &mut control,
                SendFlags::NOSIGNAL,
            )?)
        })
        .await?;
    if sent == bytes.len() { Ok(()) } else { Err(io::ErrorKind::WriteZero.into()) }
}

async fn receive_with(
    stream: &UnixStream,
    bytes: &mut [u8],
) -> io::Result<(usize, Option<OwnedFd>)> {
    stream
        .async_io(Interest::READABLE, || {
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
            let mut control = RecvAncillaryBuffer::new(&mut space);
            let received = rustix::net::recvmsg(
                stream,
                &mut [IoSliceMut::new(bytes)],
                &mut control,
                RecvFlags::CMSG_CLOEXEC,
            )?;
            if received.bytes == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let socket = control.drain().find_map(|message| match message {
                RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
                _ => None,
            });
            Ok((received.bytes, socket))
        })
        .await
}

fn hello() -> [u8; 6] {
    let mut bytes = [0; 6];
    bytes[..4].copy_from_slice(MAGIC);
    bytes[4..].copy_from_slice(&VERSION.to_be_bytes());
    bytes
}

async fn read_hello(stream: &mut UnixStream) -> io::Result<()> {
    let mut bytes = [0; 6];
    stream.read_exact(&mut bytes).await?;
    if bytes == hello() {
        return Ok(());
    }
    let what = if bytes.starts_with(MAGIC) {
        "the other process speaks another version of the handover"
    } else {
        "the other process is not Weft"
    };
    Err(io::Error::new(io::ErrorKind::InvalidData, what))
}

/// Refuses a process of another user; root may do anything anyway.
fn trusted(stream: &UnixStream) -> Result<()> {
    let peer = rustix::net::sockopt::socket_peercred(stream)
        .map_err(|error| failed("the other process cannot be identified").because(error))?;
    if peer.uid == rustix::process::geteuid() || peer.uid.is_root() {
        return Ok(());
    }
    Err(failed("the other process belongs to another user")
        .note(format!("uid {}", peer.uid.as_raw())))
}

async fn step<T>(work: impl Future<Output = io::Result<T>>) -> Result<T> {
    timeout(STEP_TIME, work)
        .await
        .map_err(|error| failed("the other process does not answer").because(error))?
        .map_err(|error| failed("the exchange broke off").because(error))
}

fn failed(say: &'static str) -> Error {
    Error::new(Reason::Internal, say).at("handover")
}
