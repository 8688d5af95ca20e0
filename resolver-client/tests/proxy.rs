//! A proxy in front of a name server that may twist what it passes on.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};

use hickory_resolver::proto::op::{Message, Query};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::task::JoinHandle;

/// How a query came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Via {
    Udp,
    Tcp,
}

/// The answer to send for an answer; `None`: silence.
pub(crate) type Twist = Arc<dyn Fn(Via, &Query, Message) -> Option<Message> + Send + Sync>;

/// It serves for as long as this value lives.
#[must_use]
pub(crate) struct Proxy {
    pub(crate) address: SocketAddr,
    upstream: Arc<Mutex<SocketAddr>>,
    seen: Arc<Mutex<Vec<String>>>,
    tasks: Vec<JoinHandle<()>>,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

#[derive(Clone)]
struct Passage {
    upstream: Arc<Mutex<SocketAddr>>,
    seen: Arc<Mutex<Vec<String>>>,
    twist: Twist,
}

impl Proxy {
    pub(crate) async fn honest(upstream: SocketAddr) -> Proxy {
        Proxy::lying(upstream, |_, _, message| Some(message)).await
    }

    pub(crate) async fn lying(
        upstream: SocketAddr,
        twist: impl Fn(Via, &Query, Message) -> Option<Message> + Send + Sync + 'static,
    ) -> Proxy {
        Self::with_tcp(upstream, Arc::new(twist), true).await
    }

    /// A proxy that may refuse TCP connections.
    pub(crate) async fn with_tcp(upstream: SocketAddr, twist: Twist, tcp: bool) -> Proxy {
        let (udp, listener, address) = loop {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
            let address = listener.local_addr().unwrap();
            if let Ok(udp) = UdpSocket::bind(address).await {
                break (Arc::new(udp), listener, address);
            }
        };
        let upstream = Arc::new(Mutex::new(upstream));
        let seen = Arc::new(Mutex::new(Vec::new()));
        let passage = Passage { upstream: Arc::clone(&upstream), seen: Arc::clone(&seen), twist };
        let mut tasks = vec![tokio::spawn(datagrams(udp, passage.clone()))];
        if tcp {
            tasks.push(tokio::spawn(async move {
                while let Ok((stream, _)) = listener.accept().await {
                    tokio::spawn(connection(stream, passage.clone()));
                }
            }));
        }
        Proxy { address, upstream, seen, tasks }
    }

    pub(crate) fn redirect(&self, upstream: SocketAddr) {
        *self.upstream.lock().unwrap() = upstream;
    }

    /// Name and type of every query so far.
    pub(crate) fn seen(&self) -> Vec<String> {
        self.seen.lock().unwrap().clone()
    }
}

async fn datagrams(socket: Arc<UdpSocket>, passage: Passage) {
    let mut buffer = [0; 4_096];
    while let Ok((length, peer)) = socket.recv_from(&mut buffer).await {
        let (query, socket, passage) = (buffer[..length].to_vec(), Arc::clone(&socket), passage.clone());
        tokio::spawn(async move {
            if let Some(answer) = passage.answer(Via::Udp, &query).await {
                let _ = socket.send_to(&answer, peer).await;
            }
        });
    }
}

async fn connection(mut stream: TcpStream, passage: Passage) {
    while let Ok(length) = stream.read_u16().await {
        let mut query = vec![0; length.into()];
        if stream.read_exact(&mut query).await.is_err() {
            return;
        }
        if let Some(answer) = passage.answer(Via::Tcp, &query).await {
            let framed = [&u16::try_from(answer.len()).unwrap().to_be_bytes()[..], &answer].concat();
            if stream.write_all(&framed).await.is_err() {
                return;
            }
        }
    }
}

impl Passage {
    async fn answer(&self, via: Via, query: &[u8]) -> Option<Vec<u8>> {
        let question = Message::from_vec(query).ok()?.queries.first()?.clone();
        self.seen.lock().unwrap().push(format!("{} {}", question.name(), question.query_type()));
        let upstream = *self.upstream.lock().unwrap();
        // The whole answer, whatever way the question came.
        let whole = forward(upstream, query).await?;
        let message = (self.twist)(via, &question, Message::from_vec(&whole).ok()?)?;
        let answer = message.to_vec().ok()?;
        if via == Via::Udp && answer.len() > 1_232 {
            let mut cut = message;
            cut.metadata.truncation = true;
            cut.answers.clear();
            cut.authorities.clear();
            cut.additionals.clear();
            return cut.to_vec().ok();
        }
        Some(answer)
    }
}

/// One question over TCP.
pub(crate) async fn forward(server: SocketAddr, query: &[u8]) -> Option<Vec<u8>> {
    let mut stream = TcpStream::connect(server).await.ok()?;
    let framed = [&u16::try_from(query.len()).ok()?.to_be_bytes()[..], query].concat();
    stream.write_all(&framed).await.ok()?;
    let mut answer = vec![0; stream.read_u16().await.ok()?.into()];
    stream.read_exact(&mut answer).await.ok()?;
    Some(answer)
}

/// One question with DO, decoded.
pub(crate) async fn query(server: SocketAddr, name: &str, record_type: &str) -> Message {
    let name = hickory_resolver::proto::rr::Name::from_ascii(name).unwrap();
    let mut message = Message::query();
    message.add_query(Query::query(name, record_type.parse().unwrap()));
    message.metadata.recursion_desired = true;
    let mut edns = hickory_resolver::proto::op::Edns::new();
    edns.set_dnssec_ok(true);
    message.edns = Some(edns);
    Message::from_vec(&forward(server, &message.to_vec().unwrap()).await.unwrap()).unwrap()
}
