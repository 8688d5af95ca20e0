//! One LDAP connection that several searches share, and the few connections kept to a server.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{sleep, timeout};

use super::message::{self, Done, Entry, Response, SEARCH_DONE, Search};
use super::{Bind, Encryption, Endpoint};
use crate::ber::frame;
use crate::outcome::Failure;
use crate::reach::{Ports, Reach, connect};
use crate::tls::Tls;

/// Octets of one message, and of all entries of one search.
const MAX_ANSWER: usize = 4 << 20;

/// A connection that nobody uses is ended after this time.
const IDLE_LIFE: Duration = Duration::from_secs(60);

/// Connections to one server, and searches on one before the next is opened.
const MAX_CONNECTIONS: usize = 4;
const BUSY: usize = 32;

/// Searches that wait on one connection.
const MAX_WAITING: usize = 1_000;

/// Messages that belong to no search: late answers to searches that were given up. More than that is an attack.
const MAX_STRAY: usize = 10_000;

/// What a search found.
#[derive(Clone, Debug)]
pub(crate) struct Answered {
    pub(crate) entries: Vec<Entry>,
    /// Parts of the tree that other servers have.
    pub(crate) references: usize,
    pub(crate) done: Done,
}

/// A connection. Ends when it is dropped.
pub(crate) struct Connection {
    state: Arc<Mutex<State>>,
    outbound: mpsc::UnboundedSender<Vec<u8>>,
    pub(crate) server: SocketAddr,
}

#[derive(Default)]
struct State {
    last_id: i32,
    waiting: HashMap<i32, Waiting>,
    stray: usize,
    /// Why there will be no further answer.
    closed: Option<Failure>,
}

struct Waiting {
    entries: Vec<Entry>,
    references: usize,
    octets: usize,
    most: usize,
    whole: oneshot::Sender<Result<Answered, Failure>>,
}

/// Forgets an operation, and tells the server to, unless it has ended.
struct Claim<'a> {
    connection: &'a Connection,
    id: i32,
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        let mut state = locked(&self.connection.state);
        if state.waiting.remove(&self.id).is_some() {
            state.last_id = next(state.last_id);
            // Nobody is there to be told that the connection has ended.
            let _ = self.connection.outbound.send(message::abandon(state.last_id, self.id));
        }
    }
}

impl Connection {
    fn start<S>(stream: S, server: SocketAddr) -> Connection
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let state = Arc::default();
        let (outbound, queue) = mpsc::unbounded_channel();
        tokio::spawn(run(stream, Arc::clone(&state), queue));
        Connection { state, outbound, server }
    }

    pub(crate) fn is_closed(&self) -> bool {
        locked(&self.state).closed.is_some()
    }

    fn load(&self) -> usize {
        locked(&self.state).waiting.len()
    }

    pub(crate) async fn search(&self, search: &Search) -> Result<Answered, Failure> {
        let most = usize::try_from(search.size_limit).unwrap_or(usize::MAX);
        self.operate(most, |id| message::search(id, search)).await
    }

    async fn operate(&self, most: usize, write: impl FnOnce(i32) -> Vec<u8>) -> Result<Answered, Failure> {
        let (whole, answer) = oneshot::channel();
        let claim = {
            let mut state = locked(&self.state);
            if let Some(failure) = &state.closed {
                return Err(failure.clone());
            }
            if state.waiting.len() >= MAX_WAITING {
                return Err(Failure::new("busy", format!("{}: too many searches at once", self.server)));
            }
            state.last_id = next(state.last_id);
            let id = state.last_id;
            let waiting = Waiting { entries: Vec::new(), references: 0, octets: 0, most, whole };
            state.waiting.insert(id, waiting);
            Claim { connection: self, id }
        };
        // When the connection has ended, so has the wait.
        let _ = self.outbound.send(write(claim.id));
        answer.await.unwrap_or_else(|_| {
            let state = locked(&self.state);
            Err(state.closed.clone().unwrap_or_else(|| Failure::new("network", "the connection ended")))
        })
    }
}

/// Moves messages until either side ends.
async fn run<S>(stream: S, state: Arc<Mutex<State>>, mut queue: mpsc::UnboundedReceiver<Vec<u8>>)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let (mut input, mut output) = tokio::io::split(stream);
    let mut buffer = Vec::new();
    let failure = loop {
        let idle = locked(&state).waiting.is_empty();
        tokio::select! {
            message = queue.recv() => match message {
                Some(message) => {
                    let sent = timeout(IDLE_LIFE, output.write_all(&message)).await;
                    if !matches!(sent, Ok(Ok(()))) {
                        break Failure::new("network", "the server takes no more");
                    }
                }
                None => break Failure::new("network", "not needed any more"),
            },
            read = input.read_buf(&mut buffer) => match read {
                Ok(0) => break Failure::new("network", "the server ended the connection"),
                Ok(_) => if let Err(failure) = take(&mut buffer, &mut locked(&state)) { break failure },
                Err(error) => break Failure::new("network", error.to_string()),
            },
            () = sleep(IDLE_LIFE), if idle => break Failure::new("network", "not used for long"),
        }
    };
    {
        let mut state = locked(&state);
        for (_, waiting) in state.waiting.drain() {
            // Who waits may have gone.
            let _ = waiting.whole.send(Err(failure.clone()));
        }
        state.closed = Some(failure);
    }
    // Out of courtesy: the connection has ended for us.
    let _ = timeout(Duration::from_secs(1), async {
        output.write_all(&message::unbind(i32::MAX)).await?;
        output.shutdown().await
    })
    .await;
}

/// Takes the whole messages out of the buffer.
fn take(buffer: &mut Vec<u8>, state: &mut State) -> Result<(), Failure> {
    let malformed = |_| Failure::new("malformed", "the server does not speak LDAP, or sends more than is read");
    let mut taken = 0;
    while let Some(rest) = buffer.get(taken..)
        && let Some(length) = frame(rest, MAX_ANSWER).map_err(malformed)?
        && let Some(octets) = rest.get(..length)
    {
        let (id, response) = message::read(octets).map_err(malformed)?;
        state.dispatch(id, response, length)?;
        taken += length;
    }
    buffer.drain(..taken);
    Ok(())
}

impl State {
    fn dispatch(&mut self, id: i32, response: Response, length: usize) -> Result<(), Failure> {
        // Id 0 is the notice of disconnection (RFC 4511 section 4.4.1).
        if id == 0 {
            return Err(Failure::new("network", "the server announced the end of the connection"));
        }
        let Some(waiting) = self.waiting.get_mut(&id) else {
            self.stray += 1;
            let enough = self.stray > MAX_STRAY;
            return if enough { Err(Failure::new("malformed", "answers to no question")) } else { Ok(()) };
        };
        waiting.octets += length;
        let result = match response {
            _ if waiting.octets > MAX_ANSWER => {
                Err(Failure::new("too-large", format!("more than {MAX_ANSWER} octets of entries")))
            }
            Response::Entry(_) if waiting.entries.len() >= waiting.most => {
                Err(Failure::new("too-large", format!("more than the {} entries asked for", waiting.most)))
            }
            Response::Entry(entry) => {
                waiting.entries.push(entry);
                return Ok(());
            }
            Response::Reference => {
                waiting.references += 1;
                return Ok(());
            }
            Response::Other => return Ok(()),
            // A search that is told to have been a bind has not said that there is nothing.
            Response::Done(done) if (done.operation == SEARCH_DONE) != (waiting.most > 0) => {
                Err(Failure::new("malformed", "the end of another operation than the one that was asked for"))
            }
            Response::Done(done) => {
                let entries = std::mem::take(&mut waiting.entries);
                Ok(Answered { entries, references: waiting.references, done })
            }
        };
        let too_large = result.is_err();
        if let Some(waiting) = self.waiting.remove(&id) {
            // Who waits may have gone.
            let _ = waiting.whole.send(result);
        }
        // The rest of it is not worth reading.
        if too_large { Err(Failure::new("network", "ended after an answer that was too large")) } else { Ok(()) }
    }
}

/// Message ids go from 1 and around (RFC 4511 section 4.1.1.1).
fn next(id: i32) -> i32 {
    if id >= i32::MAX - 1 { 1 } else { id + 1 }
}

/// A server and the connections to it.
pub(crate) struct Server {
    endpoint: Endpoint,
    bind: Option<Bind>,
    tls: Tls,
    reach: Reach,
    ports: Ports,
    connections: Mutex<Vec<Arc<Connection>>>,
    /// Who holds it may open a connection.
    dialling: tokio::sync::Mutex<()>,
}

impl Server {
    pub(crate) fn new(endpoint: Endpoint, bind: Option<Bind>, tls: Tls, reach: Reach, ports: Ports) -> Server {
        let (connections, dialling) = (Mutex::default(), tokio::sync::Mutex::default());
        Server { endpoint, bind, tls, reach, ports, connections, dialling }
    }

    pub(crate) fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// One search, on a connection that is there or on a new one.
    pub(crate) async fn search(&self, search: &Search, patience: Duration) -> Result<(Answered, SocketAddr), Failure> {
        let late = |_| Failure::new("timeout", format!("{} did not answer in time", self.endpoint));
        let whole = async {
            if let Some(connection) = self.open_one() {
                match connection.search(search).await {
                    // It may have ended at the other side meanwhile.
                    Err(failure) if failure.code == "network" => {}
                    result => return result.map(|answered| (answered, connection.server)),
                }
            }
            let connection = self.dial_one(patience).await?;
            connection.search(search).await.map(|answered| (answered, connection.server))
        };
        timeout(patience, whole).await.map_err(late)?
    }

    /// The least busy connection, unless it is time for another one.
    fn open_one(&self) -> Option<Arc<Connection>> {
        let mut connections = locked(&self.connections);
        connections.retain(|connection| !connection.is_closed());
        let least = connections.iter().min_by_key(|connection| connection.load())?;
        (least.load() < BUSY || connections.len() >= MAX_CONNECTIONS).then(|| Arc::clone(least))
    }

    async fn dial_one(&self, patience: Duration) -> Result<Arc<Connection>, Failure> {
        let _alone = self.dialling.lock().await;
        // Somebody else may have opened one while this one waited.
        if let Some(connection) = self.open_one() {
            return Ok(connection);
        }
        let connection = Arc::new(self.dial(patience).await?);
        locked(&self.connections).push(Arc::clone(&connection));
        Ok(connection)
    }

    async fn dial(&self, patience: Duration) -> Result<Connection, Failure> {
        let Endpoint { host, port, encryption } = &self.endpoint;
        let mut stream = connect(host, *port, &self.reach, self.ports, patience).await?;
        let server = stream.peer_addr().map_err(|error| Failure::new("network", error.to_string()))?;
        let connection = match encryption {
            Encryption::None => Connection::start(stream, server),
            Encryption::Tls => Connection::start(self.tls.handshake(stream, host, patience).await?, server),
            Encryption::StartTls => {
                start_tls(&mut stream).await?;
                Connection::start(self.tls.handshake(stream, host, patience).await?, server)
            }
        };
        if let Some(bind) = &self.bind {
            let bound = connection.operate(0, |id| message::bind(id, &bind.dn, &bind.password)).await?.done;
            if bound.code != 0 {
                return Err(failure(&self.endpoint, "bind", &bound));
            }
        }
        Ok(connection)
    }
}

/// Asks for TLS and reads the one answer, not an octet more: what follows it unasked would otherwise count as if it had
/// come over TLS.
async fn start_tls(stream: &mut TcpStream) -> Result<(), Failure> {
    let broken = |error: std::io::Error| Failure::new("network", error.to_string());
    let malformed = |_| Failure::new("malformed", "no answer to StartTLS");
    stream.write_all(&message::start_tls(1)).await.map_err(broken)?;
    let mut octets = Vec::new();
    let length = loop {
        octets.push(stream.read_u8().await.map_err(broken)?);
        if let Some(length) = frame(&octets, 64 << 10).map_err(malformed)? {
            break length;
        }
    };
    let mut rest = vec![0; length.saturating_sub(octets.len())];
    stream.read_exact(&mut rest).await.map_err(broken)?;
    octets.extend_from_slice(&rest);
    match message::read(&octets).map_err(malformed)? {
        (1, Response::Done(Done { code: 0, .. })) => Ok(()),
        (_, Response::Done(done)) => {
            Err(Failure::new("tls", format!("StartTLS: {} {}", message::code_name(done.code), done.message)))
        }
        _ => Err(Failure::new("malformed", "no answer to StartTLS")),
    }
}

/// The failure that a result code other than success is.
pub(crate) fn failure(endpoint: &Endpoint, operation: &str, done: &Done) -> Failure {
    let code = match done.code {
        3 | 4 | 11 => "ldap-limit",
        7 | 8 | 13 | 48..=50 => "ldap-access",
        10 => "ldap-referral",
        32 => "ldap-no-base",
        51..=53 => "ldap-unavailable",
        _ => "ldap-error",
    };
    let name = message::code_name(done.code);
    let text: String = done.message.chars().filter(|c| !c.is_control()).take(200).collect();
    Failure::new(code, format!("{endpoint}: {operation}: {name} ({}) {text}", done.code).trim_end().to_owned())
}

/// A panic elsewhere leaves the state consistent, so a poisoned lock is as good as any.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
