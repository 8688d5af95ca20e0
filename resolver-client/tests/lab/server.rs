//! The sockets of the test's own name server.

use std::collections::{BTreeMap, HashMap};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hickory_resolver::proto::op::Message;
use hickory_resolver::proto::rr::Name;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::task::JoinHandle;

use super::zone::Zone;
use super::{DS, REFUSED, Rr, wire};
use crate::proxy::Via;

/// What is asked.
#[derive(Clone, Debug)]
pub(crate) struct Ask {
    pub(crate) via: Via,
    pub(crate) id: u16,
    pub(crate) name: Name,
    pub(crate) kind: u16,
    /// How often this was asked before.
    pub(crate) before: usize,
}

/// An answer in parts.
#[derive(Clone, Debug)]
pub(crate) struct Reply {
    pub(crate) rcode: u8,
    pub(crate) aa: bool,
    pub(crate) tc: bool,
    pub(crate) answers: Vec<Rr>,
    pub(crate) authorities: Vec<Rr>,
    pub(crate) additionals: Vec<Rr>,
    /// Something else than what was asked.
    pub(crate) id: Option<u16>,
    pub(crate) question: Option<(Name, u16)>,
}

impl Reply {
    pub(crate) fn new(rcode: u8) -> Reply {
        let (answers, authorities, additionals) = Default::default();
        Reply { rcode, aa: true, tc: false, answers, authorities, additionals, id: None, question: None }
    }

    /// Without the records that `unwanted` says.
    pub(crate) fn without(mut self, unwanted: impl Fn(&Rr) -> bool) -> Reply {
        for section in [&mut self.answers, &mut self.authorities, &mut self.additionals] {
            section.retain(|r| !unwanted(r));
        }
        self
    }

    pub(crate) fn octets(&self, ask: &Ask) -> Vec<u8> {
        let (asked, kind) = self.question.clone().unwrap_or((ask.name.clone(), ask.kind));
        let mut message = self.id.unwrap_or(ask.id).to_be_bytes().to_vec();
        message.extend([0x81 | u8::from(self.aa) << 2 | u8::from(self.tc) << 1, 0x80 | self.rcode]);
        let sections = [&self.answers, &self.authorities, &self.additionals];
        message.extend([0, 1]);
        for (index, section) in sections.iter().enumerate() {
            let opt = usize::from(index == 2);
            message.extend(u16::try_from(section.len() + opt).unwrap().to_be_bytes());
        }
        message.extend([&wire(&asked)[..], &kind.to_be_bytes(), &[0, 1]].concat());
        // Owner names are compressed where they were written before.
        let mut written = HashMap::from([(asked, 12_u16)]);
        for record in sections.into_iter().flatten() {
            match written.get(&record.name).copied().filter(|_| !record.name.is_root()) {
                Some(at) => message.extend((0xc000 | at).to_be_bytes()),
                None => {
                    if message.len() < 0x3fff {
                        written.insert(record.name.clone(), u16::try_from(message.len()).unwrap());
                    }
                    message.extend(wire(&record.name));
                }
            }
            message.extend([&record.kind.to_be_bytes()[..], &[0, 1], &record.ttl.to_be_bytes()].concat());
            message.extend(u16::try_from(record.data.len()).unwrap().to_be_bytes());
            message.extend(&record.data);
        }
        // OPT: 1232 octets, DO.
        message.extend([0, 0, 41, 4, 208, 0, 0, 0x80, 0, 0, 0]);
        message
    }
}

/// What the server does.
pub(crate) enum Act {
    /// Answers; over UDP truncated where it does not fit.
    Reply(Reply),
    /// Sends these messages as they are.
    Octets(Vec<Vec<u8>>),
    /// Writes these octets to the connection, pausing before each, and closes it. Nothing over UDP.
    Stream(Vec<(Duration, Vec<u8>)>),
    Silence,
}

impl From<Reply> for Act {
    fn from(reply: Reply) -> Act {
        Act::Reply(reply)
    }
}

type Script = Arc<dyn Fn(&Ask, Reply) -> Act + Send + Sync>;

/// A server of all its zones. It serves for as long as this value lives.
#[must_use]
pub(crate) struct Lab {
    pub(crate) address: SocketAddr,
    seen: Arc<Mutex<BTreeMap<String, usize>>>,
    tasks: Vec<JoinHandle<()>>,
}

impl Drop for Lab {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

impl Lab {
    pub(crate) async fn honest(zones: &[Zone]) -> Lab {
        Lab::lying(zones, |_, reply| reply.into()).await
    }

    /// `script` makes of each honest answer what is sent.
    pub(crate) async fn lying(zones: &[Zone], script: impl Fn(&Ask, Reply) -> Act + Send + Sync + 'static) -> Lab {
        let (udp, listener, address) = loop {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
            let address = listener.local_addr().unwrap();
            if let Ok(udp) = UdpSocket::bind(address).await {
                break (Arc::new(udp), listener, address);
            }
        };
        let zones = zones.iter().map(|z| (z.apex.clone(), z.clone())).collect();
        let seen = Arc::default();
        let desk = Arc::new(Desk { zones, seen: Arc::clone(&seen), script: Arc::new(script) });
        let tasks = vec![
            tokio::spawn(datagrams(udp, Arc::clone(&desk))),
            tokio::spawn(async move {
                while let Ok((stream, _)) = listener.accept().await {
                    tokio::spawn(connection(stream, Arc::clone(&desk)));
                }
            }),
        ];
        Lab { address, seen, tasks }
    }

    /// Questions so far.
    pub(crate) fn asked(&self) -> usize {
        self.seen.lock().unwrap().values().sum()
    }
}

struct Desk {
    zones: HashMap<Name, Zone>,
    seen: Arc<Mutex<BTreeMap<String, usize>>>,
    script: Script,
}

impl Desk {
    fn act(&self, via: Via, query: &[u8]) -> Option<(Ask, Act)> {
        let message = Message::from_vec(query).ok()?;
        let question = message.queries.first()?;
        let (name, kind) = (question.name().clone(), u16::from(question.query_type()));
        let key = format!("{} {kind}", name.to_lowercase());
        let before = {
            let mut seen = self.seen.lock().unwrap();
            let count = seen.entry(key).or_default();
            *count += 1;
            *count - 1
        };
        let reply = self.honest(&name, kind);
        let ask = Ask { via, id: message.metadata.id, name, kind, before };
        let act = (self.script)(&ask, reply);
        Some((ask, act))
    }

    fn honest(&self, asked: &Name, kind: u16) -> Reply {
        // The parent knows about a delegation's keys.
        let depths = (0..=asked.iter().count()).rev();
        let zone = depths.filter_map(|d| self.zones.get(&asked.trim_to(d)));
        let zone = zone.min_by_key(|z| (kind == DS && z.apex == *asked, usize::MAX - z.apex.iter().count()));
        zone.map_or(Reply::new(REFUSED), |z| z.answer(&asked.to_lowercase(), kind))
    }
}

async fn datagrams(socket: Arc<UdpSocket>, desk: Arc<Desk>) {
    let mut buffer = [0; 4_096];
    while let Ok((length, peer)) = socket.recv_from(&mut buffer).await {
        let Some((ask, act)) = desk.act(Via::Udp, &buffer[..length]) else {
            continue;
        };
        match act {
            Act::Reply(reply) => {
                let mut octets = reply.octets(&ask);
                if octets.len() > 1_232 {
                    octets = Reply { tc: true, rcode: reply.rcode, ..Reply::new(0) }.octets(&ask);
                }
                let _ = socket.send_to(&octets, peer).await;
            }
            Act::Octets(messages) => {
                for message in messages {
                    let _ = socket.send_to(&message, peer).await;
                }
            }
            Act::Stream(_) | Act::Silence => {}
        }
    }
}

async fn connection(mut stream: TcpStream, desk: Arc<Desk>) {
    while let Ok(length) = stream.read_u16().await {
        let mut query = vec![0; length.into()];
        if stream.read_exact(&mut query).await.is_err() {
            return;
        }
        let Some((ask, act)) = desk.act(Via::Tcp, &query) else {
            return;
        };
        let messages = match act {
            Act::Reply(reply) => vec![reply.octets(&ask)],
            Act::Octets(messages) => messages,
            Act::Silence => continue,
            Act::Stream(parts) => {
                for (pause, part) in parts {
                    tokio::time::sleep(pause).await;
                    if stream.write_all(&part).await.is_err() {
                        return;
                    }
                }
                return;
            }
        };
        for message in messages {
            let framed = [&u16::try_from(message.len()).unwrap().to_be_bytes()[..], &message].concat();
            if stream.write_all(&framed).await.is_err() {
                return;
            }
        }
    }
}
