//! One connection: reads requests from any stream, answers them in their order, and writes what comes of it.
//!
//! Requests that arrived together are answered together, with few writes; long answers leave in pieces, so that a
//! connection never holds more than one piece and one entry. A peer that neither reads nor writes is let go.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use certdir_directory::{Allowance, Clock, Error as DirectoryError, Published, UnixTime};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::watch;
use tokio::time::timeout;

use crate::ber;
use crate::dn::Dn;
use crate::error::Error;
use crate::filter::{self, Truth};
use crate::message::{self, Bind, Compare, MAX_REQUEST, Message, Request, ResponseTag, Search};
use crate::metrics::Metrics;
use crate::refusal::{Refusal, ResultCode};
use crate::schema::Attribute;
use crate::search::{self, Selection};
use crate::tree::{Seen, View};

/// "Who am I?" (RFC 4532), the one extended operation here.
pub(crate) const WHO_AM_I: &str = "1.3.6.1.4.1.4203.1.11.3";

/// How many octets of answers gather before they are written.
const WRITE_SIZE: usize = 64 * 1024;
/// How many octets are read at once.
const READ_SIZE: usize = 16 * 1024;
/// How long a peer may take to accept one piece of an answer.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);
/// How long, and how many octets, a peer that was sent away may go on sending. Closing over unread octets would reset
/// the connection, and the notice that says why would be lost on its way.
const LINGER: (Duration, u64) = (Duration::from_secs(1), 1024 * 1024);

/// What all sessions share.
pub(crate) struct Shared {
    pub(crate) published: Box<dyn Fn() -> Result<Arc<Published>, DirectoryError> + Send + Sync>,
    pub(crate) allowance: Arc<Allowance>,
    pub(crate) clock: Clock,
    pub(crate) metrics: Metrics,
    /// How long a connection may take from one complete request to the next.
    pub(crate) idle: Duration,
}

/// Serves one connection until the peer ends it, breaks the protocol or falls silent, or until `shutdown` holds true.
pub(crate) async fn serve<S>(
    stream: S,
    source: IpAddr,
    service: &Shared,
    mut shutdown: watch::Receiver<bool>,
) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut session = Session { stream, source, service, out: Vec::new() };
    let mut input = Vec::new();
    loop {
        let read = tokio::select! {
            biased;
            () = stopped(&mut shutdown) => return session.disconnect(&Refusal::ShuttingDown).await,
            read = timeout(service.idle, session.read_message(&mut input)) => read,
        };
        match read {
            Err(_) | Ok(Ok(false)) => return Ok(()),
            Ok(Ok(true)) => {}
            Ok(Err(error)) => return Err(error),
        }
        let mut start = 0;
        while let Some(message) = next_message(&input, &mut start) {
            let more = match message {
                Ok(message) => session.answer(message).await?,
                Err(error) => return session.disconnect(&Refusal::Unreadable(error)).await,
            };
            if !more {
                return session.flush().await;
            }
        }
        input.drain(..start);
        session.flush().await?;
    }
}

/// The next whole message behind `start`, which moves behind it; `None` when more octets are needed.
fn next_message<'i>(input: &'i [u8], start: &mut usize) -> Option<Result<Message<'i>, Error>> {
    let rest = input.get(*start..)?;
    let end = match ber::frame(rest, MAX_REQUEST) {
        Ok(end) => end?,
        Err(error) => return Some(Err(error)),
    };
    *start += end;
    Some(message::decode(rest.get(..end)?))
}

struct Session<'s, S> {
    stream: S,
    source: IpAddr,
    service: &'s Shared,
    out: Vec<u8>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Session<'_, S> {
    /// Reads until `input` holds a whole message or one that cannot become any; false when the peer is done.
    async fn read_message(&mut self, input: &mut Vec<u8>) -> io::Result<bool> {
        while matches!(ber::frame(input, MAX_REQUEST), Ok(None)) {
            input.reserve(READ_SIZE);
            if self.stream.read_buf(input).await? == 0 {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Answers one request; false when the connection is to end.
    async fn answer(&mut self, message: Message<'_>) -> io::Result<bool> {
        let Message { id, request, critical_control } = message;
        let tag = match &request {
            Request::Unbind => return Ok(false),
            // Everything before it was answered already, so there is nothing to abandon (RFC 4511 section 4.11).
            Request::Abandon => return Ok(true),
            Request::Bind(_) => ResponseTag::Bind,
            Request::Search(_) => ResponseTag::SearchDone,
            Request::Compare(_) => ResponseTag::Compare,
            Request::Write(tag) => *tag,
            Request::Extended { .. } => ResponseTag::Extended,
        };
        let outcome = match (request, critical_control) {
            // RFC 4511 section 4.1.11: controls that are not critical are ignored.
            (_, Some(oid)) => Err(Refusal::CriticalControl(String::from_utf8_lossy(oid).into_owned())),
            (Request::Bind(request), None) => bind(&request),
            (Request::Search(request), None) => {
                self.service.metrics.search();
                match request {
                    Ok(request) => self.search(id, &request).await?,
                    Err(refusal) => Err(refusal),
                }
            }
            (Request::Compare(request), None) => self.compare(&request),
            (Request::Extended { name, value: None }, None) if name == WHO_AM_I.as_bytes() => {
                self.who_am_i(id);
                return Ok(true);
            }
            (Request::Write(_), None) => Err(Refusal::ReadOnly),
            (Request::Extended { .. } | Request::Unbind | Request::Abandon, None) => Err(Refusal::UnknownExtended),
        };
        self.finish(id, tag, outcome);
        self.flush_over(WRITE_SIZE).await?;
        Ok(true)
    }

    async fn search(&mut self, id: i32, request: &Search<'_>) -> io::Result<Result<ResultCode, Refusal>> {
        let now = (self.service.clock)();
        let Some(base) = Dn::parse(request.base) else { return Ok(Err(Refusal::InvalidDn)) };
        if !self.may_look_up(search::cost(&base, request), now) {
            return Ok(Err(Refusal::TooManyLookups));
        }
        // One published set for all of this search, or none at all.
        let published = match (self.service.published)() {
            Ok(published) => published,
            Err(error) => return Ok(Err(error.into())),
        };
        let view = View { published: &published, now };
        let found = match search::find(view, &base, request) {
            Ok(found) => found,
            Err(refusal) => return Ok(Err(refusal)),
        };
        let selection = Selection::new(request.attributes);
        for node in found.nodes {
            search::put_entry(&mut self.out, id, Seen { view, node }, selection, request.types_only);
            self.service.metrics.entry();
            self.flush_over(WRITE_SIZE).await?;
        }
        if found.was_long {
            tokio::task::yield_now().await;
        }
        Ok(found.incomplete.map_or(Ok(ResultCode::Success), Err))
    }

    /// RFC 4511 section 4.10.
    fn compare(&mut self, request: &Compare<'_>) -> Result<ResultCode, Refusal> {
        let now = (self.service.clock)();
        let dn = Dn::parse(request.entry).ok_or(Refusal::InvalidDn)?;
        if !self.may_look_up(1, now) {
            return Err(Refusal::TooManyLookups);
        }
        let published = (self.service.published)()?;
        let view = View { published: &published, now };
        let entry = Seen { view, node: view.locate(&dn)? };
        let attribute = Attribute::parse(request.attribute).ok_or(Refusal::UnknownAttribute)?;
        if filter::Filter::Present(attribute).evaluate(&entry) != Truth::True {
            return Err(Refusal::NoSuchAttribute);
        }
        match filter::equal(attribute, request.value).evaluate(&entry) {
            Truth::True => Ok(ResultCode::CompareTrue),
            Truth::False => Ok(ResultCode::CompareFalse),
            Truth::Undefined => Err(Refusal::NoSuchAttribute),
        }
    }

    fn may_look_up(&self, times: usize, now: UnixTime) -> bool {
        (0..times).all(|_| self.service.allowance.take(self.source, now))
    }

    /// RFC 4532: nobody is anybody here, so the authorization identity is empty.
    fn who_am_i(&mut self, id: i32) {
        self.service.metrics.result(ResultCode::Success);
        message::put_result(&mut self.out, id, ResponseTag::Extended, ResultCode::Success, "", "", |out| {
            ber::put(out, 0x8b, b"");
        });
    }

    fn finish(&mut self, id: i32, tag: ResponseTag, outcome: Result<ResultCode, Refusal>) {
        let code = match outcome {
            Ok(code) => {
                message::put_result(&mut self.out, id, tag, code, "", "", |_| {});
                code
            }
            Err(refusal) => {
                tracing::debug!(source = %self.source, code = ?refusal.code(), "LDAP: {refusal}");
                message::put_refusal(&mut self.out, id, tag, &refusal);
                refusal.code()
            }
        };
        self.service.metrics.result(code);
    }

    async fn disconnect(&mut self, refusal: &Refusal) -> io::Result<()> {
        tracing::debug!(source = %self.source, "LDAP: {refusal}");
        self.service.metrics.result(refusal.code());
        message::put_notice(&mut self.out, refusal);
        self.flush().await?;
        timeout(WRITE_TIMEOUT, self.stream.shutdown()).await??;
        let mut rest = (&mut self.stream).take(LINGER.1);
        // Whether the peer is done or the time is up, this is the end.
        let _ = timeout(LINGER.0, tokio::io::copy(&mut rest, &mut tokio::io::sink())).await;
        Ok(())
    }

    async fn flush_over(&mut self, limit: usize) -> io::Result<()> {
        if self.out.len() > limit { self.flush().await } else { Ok(()) }
    }

    async fn flush(&mut self) -> io::Result<()> {
        if !self.out.is_empty() {
            timeout(WRITE_TIMEOUT, self.stream.write_all(&self.out)).await??;
            self.out.clear();
            self.out.shrink_to(2 * WRITE_SIZE);
        }
        Ok(())
    }
}

/// RFC 4511 section 4.2 and RFC 4513 section 5.1. Nothing is gained by any bind: everybody sees the same.
fn bind(request: &Bind<'_>) -> Result<ResultCode, Refusal> {
    if request.version != 3 {
        return Err(Refusal::Version);
    }
    match (request.name, request.password) {
        (b"", Some(b"")) => Ok(ResultCode::Success),
        // RFC 4513 section 5.1.2: a client that forgot the password must not believe that it is known here. Thunderbird
        // binds so when the directory's settings hold a bind DN and no password; without a bind DN it binds anonymously.
        (_, Some(b"")) => Err(Refusal::UnauthenticatedBind),
        (_, Some(_)) => Err(Refusal::Credentials),
        (_, None) => Err(Refusal::BindMethod),
    }
}

/// Waits until the server is to stop.
pub(crate) async fn stopped(shutdown: &mut watch::Receiver<bool>) {
    // An error means that nobody is left who could say so later: stop, too.
    let _ = shutdown.wait_for(|stop| *stop).await;
}
