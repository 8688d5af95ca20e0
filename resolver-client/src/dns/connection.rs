//! The ways to one name server: a datagram for one question, and a stream that many questions share.
//!
//! A [`Pipeline`] keeps one TCP or TLS connection open and has many questions in flight on it, answered in any order
//! (RFC 7766 section 6.2.1.1). A connection that the server closed is opened again for the questions it left unanswered, and
//! one on which nothing comes any more is given up.

use std::collections::HashMap;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader, ReadHalf, WriteHalf};
use tokio::net::{TcpStream, UdpSocket};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::query;
use super::server::NameServer;

/// Questions in flight on one connection.
const MAX_IN_FLIGHT: usize = 4_096;

/// Connections tried for one question: servers close those that have idled or have asked enough.
const CONNECTIONS: usize = 3;

/// Questions are written together up to about this many octets.
const BATCH: usize = 16 << 10;

/// What is read from a socket at once.
const READ: usize = 64 << 10;

/// The longest answer over UDP that is received; more than any that was asked for.
const DATAGRAM: usize = 4_096;

/// A connection on which a question has waited this long, and nothing else has come meanwhile, is given up.
const SILENCE: Duration = Duration::from_secs(1);

/// One question in a datagram of its own, from a port of its own. Answers to something else are not looked at: anybody can
/// send them.
pub(crate) async fn datagram(server: SocketAddr, question: &[u8]) -> io::Result<Vec<u8>> {
    let any = match server {
        SocketAddr::V4(_) => SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
        SocketAddr::V6(_) => SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)),
    };
    let socket = UdpSocket::bind(any).await?;
    socket.connect(server).await?;
    socket.send(question).await?;
    let mut buffer = vec![0; DATAGRAM];
    loop {
        let length = socket.recv(&mut buffer).await?;
        let answer = buffer.get(..length).unwrap_or_default();
        if query::answers(question, answer) {
            return Ok(answer.to_vec());
        }
    }
}

/// A stream connection to one server, opened when it is needed.
pub(crate) struct Pipeline {
    server: NameServer,
    open: tokio::sync::Mutex<Option<Arc<Open>>>,
}

/// An open connection.
struct Open {
    outbox: mpsc::UnboundedSender<Vec<u8>>,
    waiting: Arc<Mutex<Waiting>>,
}

/// Who waits for an answer on a connection.
#[derive(Default)]
struct Waiting {
    closed: bool,
    next_id: u16,
    received: u64,
    by_id: HashMap<u16, oneshot::Sender<Vec<u8>>>,
}

impl Pipeline {
    pub(crate) fn new(server: NameServer) -> Self {
        Pipeline { server, open: tokio::sync::Mutex::default() }
    }

    /// Asks one question; its id is replaced. Cancellation-safe: an answer that nobody waits for is dropped.
    pub(crate) async fn ask(&self, question: &[u8]) -> io::Result<Vec<u8>> {
        let mut last = io::Error::from(io::ErrorKind::NotConnected);
        for _ in 0..CONNECTIONS {
            match self.opened().await?.ask(question).await {
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => last = error,
                answer => return answer,
            }
        }
        Err(last)
    }

    async fn opened(&self) -> io::Result<Arc<Open>> {
        let mut open = self.open.lock().await;
        if let Some(open) = open.as_ref().filter(|open| !locked(&open.waiting).closed) {
            return Ok(Arc::clone(open));
        }
        let stream = TcpStream::connect(self.server.address()).await?;
        stream.set_nodelay(true)?;
        let fresh = Arc::new(match self.server.secured(stream) {
            Ok(handshake) => Open::over(handshake.await?),
            Err(plain) => Open::over(plain),
        });
        *open = Some(Arc::clone(&fresh));
        Ok(fresh)
    }
}

impl Open {
    fn over(stream: impl AsyncRead + AsyncWrite + Send + 'static) -> Open {
        let (outbox, questions) = mpsc::unbounded_channel();
        let waiting = Arc::new(Mutex::new(Waiting::default()));
        let (reader, writer) = tokio::io::split(stream);
        // However the task ends, also with its runtime, who waits must know.
        let closing = Closing(Arc::clone(&waiting));
        tokio::spawn(async move {
            let _ = tokio::select! {
                ended = read(reader, &closing.0) => ended,
                ended = write(writer, questions) => ended,
            };
            drop(closing);
        });
        Open { outbox, waiting }
    }

    async fn ask(&self, question: &[u8]) -> io::Result<Vec<u8>> {
        let (sender, receiver) = oneshot::channel();
        let (id, seen) = locked(&self.waiting).enter(sender)?;
        let pending = Pending { open: self, id, seen, since: Instant::now() };
        let mut framed = u16::try_from(question.len()).unwrap_or_default().to_be_bytes().to_vec();
        framed.extend(id.to_be_bytes());
        framed.extend(question.get(2..).unwrap_or_default());
        self.outbox.send(framed).map_err(|_| closed())?;
        let answer = receiver.await.map_err(|_| closed())?;
        drop(pending);
        Ok(answer)
    }
}

/// A question in flight. When it ends without an answer its id is free again, and the connection is looked at.
struct Pending<'a> {
    open: &'a Open,
    id: u16,
    /// Messages that had come before it was sent.
    seen: u64,
    since: Instant,
}

impl Drop for Pending<'_> {
    fn drop(&mut self) {
        let mut waiting = locked(&self.open.waiting);
        let unanswered = waiting.by_id.remove(&self.id).is_some();
        if unanswered && waiting.received == self.seen && self.since.elapsed() >= SILENCE {
            waiting.close();
        }
    }
}

impl Waiting {
    fn enter(&mut self, sender: oneshot::Sender<Vec<u8>>) -> io::Result<(u16, u64)> {
        if self.closed {
            return Err(closed());
        }
        if self.by_id.len() >= MAX_IN_FLIGHT {
            return Err(io::Error::new(io::ErrorKind::ResourceBusy, "too many questions in flight"));
        }
        while self.by_id.contains_key(&self.next_id) {
            self.next_id = self.next_id.wrapping_add(1);
        }
        let id = self.next_id;
        self.next_id = id.wrapping_add(1);
        self.by_id.insert(id, sender);
        Ok((id, self.received))
    }

    fn close(&mut self) {
        self.closed = true;
        self.by_id.clear();
    }
}

/// Ends the waiting of everybody on a connection.
struct Closing(Arc<Mutex<Waiting>>);

impl Drop for Closing {
    fn drop(&mut self) {
        locked(&self.0).close();
    }
}

async fn read<S: AsyncRead>(reader: ReadHalf<S>, waiting: &Mutex<Waiting>) -> io::Result<()> {
    let mut reader = BufReader::with_capacity(READ, reader);
    loop {
        let mut answer = vec![0; reader.read_u16().await?.into()];
        reader.read_exact(&mut answer).await?;
        let Some(id) = answer.first_chunk::<2>().map(|id| u16::from_be_bytes(*id)) else {
            return Err(io::ErrorKind::InvalidData.into());
        };
        let sender = {
            let mut waiting = locked(waiting);
            waiting.received = waiting.received.wrapping_add(1);
            waiting.by_id.remove(&id)
        };
        // Nobody waits for the answer to a question that was given up.
        let _ = sender.map(|sender| sender.send(answer));
    }
}

async fn write<S: AsyncWrite>(
    mut writer: WriteHalf<S>,
    mut questions: mpsc::UnboundedReceiver<Vec<u8>>,
) -> io::Result<()> {
    while let Some(mut batch) = questions.recv().await {
        while batch.len() < BATCH
            && let Ok(next) = questions.try_recv()
        {
            batch.extend(next);
        }
        writer.write_all(&batch).await?;
        writer.flush().await?;
    }
    writer.shutdown().await
}

fn closed() -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, "the server closed the connection")
}

/// The maps are consistent whatever panicked.
fn locked(waiting: &Mutex<Waiting>) -> MutexGuard<'_, Waiting> {
    waiting.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use hickory_resolver::proto::rr::{Name, RecordType};
    use tokio::net::TcpListener;

    fn question(n: usize) -> Vec<u8> {
        query::wire(0, &Name::from_ascii(format!("n{n}.example.")).unwrap(), RecordType::SMIMEA, false)
    }

    /// Reads so many questions of each connection, answers them in the reverse order, and closes it.
    async fn backwards(listener: TcpListener, at_once: usize) {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut answers = Vec::new();
                for _ in 0..at_once {
                    let Ok(length) = stream.read_u16().await else { return };
                    let mut message = vec![0; length.into()];
                    stream.read_exact(&mut message).await.unwrap();
                    message[2] |= 0x80;
                    answers.push([&length.to_be_bytes()[..], &message].concat());
                }
                for answer in answers.iter().rev() {
                    stream.write_all(answer).await.unwrap();
                }
            });
        }
    }

    async fn ask_all(pipeline: &Pipeline, count: usize) -> Vec<io::Result<()>> {
        let ask = |n| async move {
            let asked = question(n);
            let mut answer = pipeline.ask(&asked).await?;
            answer[..2].copy_from_slice(&asked[..2]);
            assert!(query::answers(&asked, &answer), "the answer to another question");
            Ok(())
        };
        futures_util::future::join_all((0..count).map(ask)).await
    }

    #[tokio::test]
    async fn answers_come_in_any_order_and_closed_connections_are_opened_again() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let pipeline = Pipeline::new(NameServer::plain(listener.local_addr().unwrap()));
        let server = tokio::spawn(backwards(listener, 10));
        for _ in 0..3 {
            assert!(ask_all(&pipeline, 10).await.iter().all(Result::is_ok));
        }
        // Twenty on a server that answers ten on each connection.
        assert!(ask_all(&pipeline, 20).await.iter().all(Result::is_ok));
        server.abort();
    }

    #[tokio::test]
    async fn who_gives_up_leaves_nothing_behind() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let pipeline = Pipeline::new(NameServer::plain(listener.local_addr().unwrap()));
        // It never answers.
        let server = tokio::spawn(backwards(listener, usize::MAX));
        let asked = question(0);
        let patience = SILENCE + Duration::from_millis(100);
        assert!(tokio::time::timeout(patience, pipeline.ask(&asked)).await.is_err());
        let open = pipeline.open.lock().await.clone().unwrap();
        let waiting = locked(&open.waiting);
        // Nothing came for so long that the connection is given up.
        assert!(waiting.by_id.is_empty() && waiting.closed);
        server.abort();
    }

    #[tokio::test]
    async fn a_server_that_is_not_there_and_one_that_is_too_busy_are_errors() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        let pipeline = Pipeline::new(NameServer::plain(address));
        assert_eq!(pipeline.ask(&question(0)).await.unwrap_err().kind(), io::ErrorKind::ConnectionRefused);

        let mut waiting = Waiting { next_id: u16::MAX, ..Waiting::default() };
        let mut ids = std::collections::HashSet::new();
        for _ in 0..MAX_IN_FLIGHT {
            assert!(ids.insert(waiting.enter(oneshot::channel().0).unwrap().0));
        }
        assert_eq!(waiting.enter(oneshot::channel().0).unwrap_err().kind(), io::ErrorKind::ResourceBusy);
    }
}
