//! DNS over QUIC (RFC 9250): every query has a stream of its own.

use std::io;
use std::net::UdpSocket;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use quinn::crypto::rustls::QuicServerConfig;
use quinn::{
    Connection, Endpoint, EndpointConfig, Incoming, ReadToEndError, RecvStream, SendStream, TokioRuntime,
    TransportConfig, VarInt,
};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::answer::{Asker, Transport};
use crate::counters::Tally;
use crate::seats::{Patience, Seat, Waits};
use crate::stream::{MAX_REQUEST, SIGNING, Worker, split};
use crate::view::Latest;

/// Error codes (RFC 9250 section 4.3).
const NO_ERROR: VarInt = VarInt::from_u32(0);
const PROTOCOL_ERROR: VarInt = VarInt::from_u32(2);
const REQUEST_CANCELLED: VarInt = VarInt::from_u32(3);
const EXCESSIVE_LOAD: VarInt = VarInt::from_u32(4);

/// Queries under way on one connection.
const STREAMS: u32 = 100;
/// Octets of queries waiting on one connection.
const RECEIVE: u32 = 64 * 1024;
/// Responses being written on one connection, and octets of them that the client has not acknowledged: what a slow
/// reader costs.
const WRITING: usize = 2;
const SEND: u64 = 128 * 1024;
/// Handshakes under way from which on a client has to show first that it is where it says (RFC 9000 section 8.1.2).
const RETRY: usize = 8;
/// Handshakes that wait to be looked at, and octets of each.
const INCOMING: usize = 256;
const INCOMING_OCTETS: u64 = 16 * 1024;
/// How long clients are told that the server stops.
const GOODBYE: Duration = Duration::from_millis(100);

/// The QUIC endpoint on a bound socket; within a tokio runtime. An answer leaves from the address that was asked.
pub(crate) fn endpoint(socket: UdpSocket, tls: Arc<rustls::ServerConfig>, patience: Patience) -> io::Result<Endpoint> {
    let crypto = QuicServerConfig::try_from(tls).map_err(io::Error::other)?;
    let mut transport = TransportConfig::default();
    transport
        .max_concurrent_bidi_streams(STREAMS.into())
        .max_concurrent_uni_streams(0_u8.into())
        .stream_receive_window((MAX_REQUEST as u32).into())
        .receive_window(RECEIVE.into())
        .send_window(SEND)
        .datagram_receive_buffer_size(None)
        .max_idle_timeout(Some(patience.keepalive.try_into().map_err(io::Error::other)?));
    let mut config = quinn::ServerConfig::with_crypto(Arc::new(crypto));
    config
        .transport_config(Arc::new(transport))
        .max_incoming(INCOMING)
        .incoming_buffer_size(INCOMING_OCTETS)
        .incoming_buffer_size_total(INCOMING as u64 * INCOMING_OCTETS);
    socket.set_nonblocking(true)?;
    Endpoint::new(EndpointConfig::default(), Some(config), socket, Arc::new(TokioRuntime))
}

/// Says goodbye to whoever is connected.
pub(crate) async fn close(endpoint: &Endpoint) {
    endpoint.close(NO_ERROR, b"");
    let _ = timeout(GOODBYE, endpoint.wait_idle()).await;
}

/// Accepts connections until the endpoint is closed.
pub(crate) async fn accept<L: Latest>(endpoint: Endpoint, worker: Rc<Worker<L>>, tally: Arc<Tally>) {
    while let Some(incoming) = endpoint.accept().await {
        let peer = incoming.remote_address();
        // An address that is only claimed must not use up the places of whoever has it.
        if !incoming.remote_address_validated() && incoming.may_retry() && worker.seats.handshakes() >= RETRY {
            let _ = incoming.retry();
            continue;
        }
        let Some(place) = worker.seats.admit(peer.ip()).await else {
            tally.refused_connection();
            incoming.refuse();
            continue;
        };
        let (worker, tally) = (worker.clone(), tally.clone());
        worker.clone().seats.run(place, Waits::Handshake, |seat| async move {
            // A connection that breaks concerns nobody else.
            let _ = converse(incoming, worker, tally, seat).await;
        });
    }
}

/// Answers the queries of one connection until its client closes it.
async fn converse<L: Latest>(
    incoming: Incoming,
    worker: Rc<Worker<L>>,
    tally: Arc<Tally>,
    seat: Rc<Seat>,
) -> Result<(), quinn::ConnectionError> {
    let connection = incoming.accept()?.await?;
    seat.keep_alive();
    seat.waits(Waits::Idle, true);
    let writing = Rc::new(Semaphore::new(WRITING));
    let mut exchanges = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = connection.accept_bi() => accepted?,
            Some(_) = exchanges.join_next(), if !exchanges.is_empty() => {
                if exchanges.is_empty() {
                    seat.waits(Waits::Idle, true);
                }
                continue;
            }
        };
        seat.waits(Waits::Request, true);
        let exchange = Exchange {
            connection: connection.clone(),
            worker: worker.clone(),
            tally: tally.clone(),
            writing: writing.clone(),
        };
        exchanges.spawn_local(exchange.run(accepted));
    }
}

/// One query and its response.
struct Exchange<L> {
    connection: Connection,
    worker: Rc<Worker<L>>,
    tally: Arc<Tally>,
    writing: Rc<Semaphore>,
}

impl<L: Latest> Exchange<L> {
    async fn run(self, (mut send, mut receive): (SendStream, RecvStream)) {
        let patience = self.worker.seats.patience().slow + SIGNING;
        let end = timeout(patience, self.answer(&mut send, &mut receive)).await;
        // A stream that has ended by itself cannot be reset any more, which is fine.
        match end {
            Ok(Ok(())) => {}
            Ok(Err(PROTOCOL_ERROR)) => self.connection.close(PROTOCOL_ERROR, b""),
            Ok(Err(code)) => {
                let _ = send.reset(code);
                let _ = receive.stop(code);
            }
            Err(_) => {
                let _ = send.reset(EXCESSIVE_LOAD);
                let _ = receive.stop(EXCESSIVE_LOAD);
            }
        }
    }

    /// The error is the code to end the stream with, or, for a protocol error, the connection (RFC 9250 section 4.3).
    async fn answer(&self, send: &mut SendStream, receive: &mut RecvStream) -> Result<(), VarInt> {
        let octets = receive.read_to_end(MAX_REQUEST).await.map_err(|error| match error {
            ReadToEndError::TooLong => EXCESSIVE_LOAD,
            ReadToEndError::Read(_) => REQUEST_CANCELLED,
        })?;
        // RFC 9250 section 4.3.3: the whole query, nothing but one query, and its identification is 0.
        let Some((request @ [0, 0, ..], [])) = split(&octets) else {
            return Err(PROTOCOL_ERROR);
        };
        let asker = Asker::new(Transport::Quic, self.connection.remote_address().ip());
        let answered = self.worker.answer(&asker, request, &self.tally, &self.writing).await;
        match answered {
            // RFC 9250 section 5.5.2: edns-tcp-keepalive has no place here.
            Some((_, finished, _)) if finished.keepalive_asked => Err(PROTOCOL_ERROR),
            Some((framed, _, _writing)) => {
                send.write_all(&framed).await.map_err(|_| REQUEST_CANCELLED)?;
                send.finish().map_err(|_| REQUEST_CANCELLED)
            }
            // What gets no answer is no query.
            None => Err(PROTOCOL_ERROR),
        }
    }
}
