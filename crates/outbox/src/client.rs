//! One connection to a PostgreSQL server: opened, let in, asked in text, and read as a stream of replication.
//!
//! The codec of messages and SCRAM are the crate `postgres-protocol`'s; the sockets are the node's own. That crate knows
//! no replication, so what is peculiar to that is here: the connection is asked in the simple protocol alone, which a
//! replicating one takes as well. A frame is never larger than a bound, and everything but the stream has a timeout.

mod auth;
mod errors;

use std::{fmt, future::poll_fn, io, pin::Pin, sync::Arc, time::Duration};

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use fallible_iterator::FallibleIterator as _;
use postgres_protocol::message::{
    backend::{self, Message},
    frontend,
};
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio_rustls::TlsConnector;
use weft_net::{
    Address,
    client::{Resolver, Tls, addresses},
    connect::{ConnectTarget, connect},
};

use crate::database::Database;
pub(crate) use errors::{Failure, ServerError, state};

/// Time for connecting, with all that has to be said first.
const CONNECT: Duration = Duration::from_secs(10);
/// Time for an answer to what is asked.
const ANSWER: Duration = Duration::from_secs(30);
/// The largest frame. A row that is larger goes to no topic either.
const FRAME_BYTES_MAX: usize = 64 << 20;
/// The most rows of an answer; those that are asked for have a few.
const ROWS_MAX: usize = 4_096;
/// Bytes that are read at once.
const READ_BYTES: usize = 64 << 10;

/// A stream of bytes to a server, with TLS or without.
trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// What connections are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// To be asked, and to stream changes.
    Replication,
    /// To be asked alone.
    Questions,
}

/// How connections are opened.
pub(crate) struct Way {
    pub(crate) database: Database,
    pub(crate) resolver: Arc<dyn Resolver>,
    pub(crate) tls: Option<Tls>,
}

/// A connection on which the server has let the node in.
pub(crate) struct Client {
    io: Box<dyn Stream>,
    read: BytesMut,
    write: BytesMut,
}

/// One row of an answer, in text.
pub(crate) type Row = Vec<Option<String>>;

/// A frame while changes are streamed.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Frame {
    /// Data of the stream.
    Data(Bytes),
    /// The server ends the stream.
    Ended,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").finish_non_exhaustive()
    }
}

impl Way {
    /// Connects, and says who the node is.
    pub(crate) async fn open(&self, purpose: Purpose, name: &str) -> Result<Client, Failure> {
        let opened = tokio::time::timeout(CONNECT, self.open_any(purpose, name)).await;
        opened.unwrap_or_else(|_elapsed| {
            Err(Failure::Away("it has not let the node in in time".into()))
        })
    }

    async fn open_any(&self, purpose: Purpose, name: &str) -> Result<Client, Failure> {
        let Database { host, port, .. } = &self.database;
        let found = addresses(&*self.resolver, host, *port).await;
        let mut wrong = Vec::new();
        for address in found.map_err(|error| Failure::Away(error.detail()))? {
            match self.open_at(Address::Tcp(address), purpose, name).await {
                Ok(client) => return Ok(client),
                // It answers, and the others would say the same.
                Err(failure @ Failure::Server(_)) => return Err(failure),
                Err(failure) => wrong.push(format!("{address}: {failure}")),
            }
        }
        Err(Failure::Away(wrong.join("; ")))
    }

    async fn open_at(
        &self,
        address: Address,
        purpose: Purpose,
        name: &str,
    ) -> Result<Client, Failure> {
        let connected = connect(&ConnectTarget::plain(address), CONNECT).await;
        let io = connected.map_err(|error| Failure::Away(error.detail()))?.io;
        let io: Box<dyn Stream> = match &self.tls {
            Some(tls) if self.database.tls => self.secure(io, tls).await?,
            _ if self.database.tls => {
                return Err(Failure::Away("TLS is asked for, and cannot be spoken".into()));
            }
            _ => Box::new(io),
        };
        let mut client = Client { io, read: BytesMut::new(), write: BytesMut::new() };
        let mut parameters = vec![
            ("user", &*self.database.user),
            ("database", &*self.database.name),
            ("client_encoding", "UTF8"),
            ("application_name", name),
            ("datestyle", "ISO"),
            // What is written here may be lost, and who waits for its confirmation waits for nothing else.
            ("synchronous_commit", "off"),
        ];
        if purpose == Purpose::Replication {
            parameters.push(("replication", "database"));
        }
        frontend::startup_message(parameters, &mut client.write)?;
        auth::let_in(&mut client, &self.database).await?;
        Ok(client)
    }

    /// Asks the server for TLS, and speaks it with nobody but the host that was named.
    async fn secure(
        &self,
        mut io: impl Stream + 'static,
        tls: &Tls,
    ) -> Result<Box<dyn Stream>, Failure> {
        let mut ask = BytesMut::new();
        frontend::ssl_request(&mut ask);
        io.write_all(&ask).await?;
        io.flush().await?;
        if io.read_u8().await? != b'S' {
            let say = "the server speaks no TLS; `sslmode=disable` goes without";
            return Err(Failure::Away(say.into()));
        }
        let name = ServerName::try_from(self.database.host.clone());
        let invalid = "the host cannot stand in a certificate";
        let name = name.map_err(|_invalid| Failure::Away(invalid.into()))?;
        let stream = TlsConnector::from(tls()).connect(name, io).await;
        let failed = |error: io::Error| Failure::Away(format!("TLS handshake failed: {error}"));
        Ok(Box::new(stream.map_err(failed)?))
    }
}

impl Client {
    /// Sends what waits to be sent.
    async fn send(&mut self) -> Result<(), Failure> {
        while !self.write.is_empty() {
            let Self { io, write, .. } = self;
            let sent = io.write(write).await?;
            if sent == 0 {
                return Err(io::Error::from(io::ErrorKind::WriteZero).into());
            }
            write.advance(sent);
        }
        self.io.flush().await?;
        Ok(())
    }

    /// Bytes that a whole frame has which has come, if one has.
    fn frame(&self) -> Result<Option<usize>, Failure> {
        let Some(header) = backend::Header::parse(&self.read)? else { return Ok(None) };
        let length = usize::try_from(header.len()).unwrap_or(0) + 1;
        if length > FRAME_BYTES_MAX {
            let say = format!(
                "it sends {length} bytes at once, and at most {FRAME_BYTES_MAX} are taken: a row is too large"
            );
            return Err(Failure::Protocol(say));
        }
        Ok((self.read.len() >= length).then_some(length))
    }

    /// Whether the next frame has come already.
    pub(crate) fn has_frame(&self) -> bool {
        !matches!(self.frame(), Ok(None))
    }

    /// Reads until a whole frame is there, and gives its length. Cancel-safe.
    async fn whole(&mut self) -> Result<usize, Failure> {
        loop {
            if let Some(length) = self.frame()? {
                return Ok(length);
            }
            self.read.reserve(READ_BYTES);
            let Self { io, read, .. } = self;
            if io.read_buf(read).await? == 0 {
                return Err(Failure::Away("it has closed the connection".into()));
            }
        }
    }

    /// The next message that is no notice. Cancel-safe.
    async fn message(&mut self) -> Result<Message, Failure> {
        loop {
            self.whole().await?;
            let message = Message::parse(&mut self.read)?;
            match message.ok_or_else(|| Failure::Protocol("a frame is cut".into()))? {
                Message::NoticeResponse(_) | Message::ParameterStatus(_) => {}
                message => return Ok(message),
            }
        }
    }

    /// Asks in text; gives the rows of all answers.
    pub(crate) async fn ask(&mut self, text: &str) -> Result<Vec<Row>, Failure> {
        let answer = tokio::time::timeout(ANSWER, self.ask_patiently(text)).await;
        answer.unwrap_or_else(|_elapsed| Err(Failure::Away("it has not answered in time".into())))
    }

    /// The same, for what may have to wait for others.
    pub(crate) async fn ask_patiently(&mut self, text: &str) -> Result<Vec<Row>, Failure> {
        frontend::query(text, &mut self.write)?;
        self.send().await?;
        let (mut rows, mut refused) = (Vec::new(), None);
        loop {
            match self.message().await? {
                Message::DataRow(row) if rows.len() < ROWS_MAX => {
                    let text = |range: Option<std::ops::Range<usize>>| {
                        let bytes = range.and_then(|range| row.buffer().get(range));
                        Ok(bytes.map(|bytes| String::from_utf8_lossy(bytes).into_owned()))
                    };
                    rows.push(row.ranges().map(text).collect()?);
                }
                Message::ErrorResponse(body) => refused = Some(ServerError::of(&body)),
                Message::ReadyForQuery(_) => break,
                Message::RowDescription(_)
                | Message::CommandComplete(_)
                | Message::EmptyQueryResponse => {}
                _ => return Err(Failure::Protocol("the answer is none to a question".into())),
            }
        }
        match refused {
            Some(error) => Err(Failure::Server(error)),
            None => Ok(rows),
        }
    }

    /// Has changes streamed.
    pub(crate) async fn stream(&mut self, command: &str) -> Result<(), Failure> {
        const COPY_BOTH: u8 = b'W';
        frontend::query(command, &mut self.write)?;
        self.send().await?;
        let begun = async {
            loop {
                let length = self.whole().await?;
                match self.read.first() {
                    Some(&COPY_BOTH) => {
                        self.read.advance(length);
                        return Ok(());
                    }
                    // Notices, and settings that are told.
                    Some(b'N' | b'S') => self.read.advance(length),
                    _ => break,
                }
            }
            match self.message().await? {
                Message::ErrorResponse(body) => Err(Failure::Server(ServerError::of(&body))),
                _ => Err(Failure::Protocol("it begins no stream".into())),
            }
        };
        let begun = tokio::time::timeout(ANSWER, begun).await;
        begun.unwrap_or_else(|_elapsed| Err(Failure::Away("it begins no stream in time".into())))
    }

    /// The next frame of the stream. Cancel-safe.
    pub(crate) async fn next(&mut self) -> Result<Frame, Failure> {
        match self.message().await? {
            Message::CopyData(body) => Ok(Frame::Data(body.into_bytes())),
            Message::CopyDone | Message::CommandComplete(_) => Ok(Frame::Ended),
            Message::ErrorResponse(body) => Err(Failure::Server(ServerError::of(&body))),
            _ => Err(Failure::Protocol("what it sends is no data of a stream".into())),
        }
    }

    /// Sends data to who streams.
    pub(crate) async fn tell(&mut self, data: &[u8]) -> Result<(), Failure> {
        const COPY_DATA: u8 = b'd';
        let length = u32::try_from(data.len() + 4).unwrap_or(u32::MAX);
        self.write.put_u8(COPY_DATA);
        self.write.put_u32(length);
        self.write.put_slice(data);
        let sent = tokio::time::timeout(ANSWER, self.send()).await;
        sent.unwrap_or_else(|_elapsed| Err(Failure::Away("it takes nothing any more".into())))
    }

    /// Says goodbye, and closes.
    pub(crate) async fn close(mut self) {
        const GOODBYE: Duration = Duration::from_millis(500);
        frontend::terminate(&mut self.write);
        let closed = async {
            let _ = self.send().await;
            let _ = poll_fn(|cx| Pin::new(&mut self.io).poll_shutdown(cx)).await;
        };
        let _ = tokio::time::timeout(GOODBYE, closed).await;
    }
}
