//! One connection from its first byte to its last: TLS or none, which HTTP, its requests, its end.

use std::future::Future;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::aside::Aside;
use super::front::Front;
use super::http2::{self, Fitted, Streams};
use super::tls::{Certificates, HTTP_2};
use super::watchdog::{Protocol, Watchdog};
use super::{Config, Service};

/// hyper answers a head beyond its own limit with a bare 431, and leaves those below it to the service, which can explain.
const HEAD_SLACK: usize = 4;

/// Fields in one request's head, beyond which hyper answers with a bare 431.
const MAX_FIELDS: usize = 1_000;

/// No method of HTTP/1.1 begins with this, and HTTP/2 begins with nothing else (RFC 9113, 3.4).
const PREFACE: &[u8] = b"PRI";

/// How long an idle HTTP/2 connection that was told to end may take to do so.
const GOODBYE: Duration = Duration::from_secs(1);

/// What the connections of one address share.
#[derive(Clone, Debug)]
pub(super) struct Host {
    pub(super) config: Arc<Config>,
    pub(super) certificates: Option<Arc<Certificates>>,
    /// No new requests; those under way finish.
    pub(super) stopping: CancellationToken,
    /// The tasks of HTTP/2's streams.
    pub(super) streams: TaskTracker,
}

/// Serves one connection to its end.
pub(super) async fn serve_connection<S: Service>(stream: TcpStream, service: S, host: Host) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "a connection ended before it began");
        return;
    }
    let stopping = host.stopping.clone();
    let begun = async {
        match &host.certificates {
            Some(certificates) => handshake(stream, certificates, &host.config).await.map(Begun::Tls),
            None => first_bytes(stream, &host.config).await.map(Begun::Plain),
        }
    };
    // A stop finds no request in what has not even begun.
    match stopping.run_until_cancelled(begun).await {
        None => {}
        Some(Err(error)) => tracing::debug!(%error, "a connection ended before its first request"),
        Some(Ok(Begun::Plain((stream, protocol, first)))) => converse(stream, protocol, first, service, &host).await,
        Some(Ok(Begun::Tls((stream, protocol)))) => converse(stream, protocol, BytesMut::new(), service, &host).await,
    }
}

enum Begun {
    Plain((TcpStream, Protocol, BytesMut)),
    Tls((Box<tokio_rustls::server::TlsStream<TcpStream>>, Protocol)),
}

/// A handshake takes no longer than a head may, and ALPN says what is spoken (RFC 9113, 3.2): without it, HTTP/1.1.
async fn handshake(
    stream: TcpStream,
    certificates: &Arc<Certificates>,
    config: &Config,
) -> io::Result<(Box<tokio_rustls::server::TlsStream<TcpStream>>, Protocol)> {
    let agreed = async { TlsAcceptor::from(certificates.current().await).accept(stream).await };
    let stream = timeout(config.header_timeout.0, agreed).await??;
    let is_http2 = stream.get_ref().1.alpn_protocol() == Some(HTTP_2);
    Ok((Box::new(stream), if is_http2 { Protocol::Http2 } else { Protocol::Http1 }))
}

/// Without TLS a client that speaks HTTP/2 knows so before (RFC 9113, 3.3), and its first bytes tell.
async fn first_bytes(mut stream: TcpStream, config: &Config) -> io::Result<(TcpStream, Protocol, BytesMut)> {
    let mut first = BytesMut::with_capacity(PREFACE.len());
    timeout(config.idle_timeout.0, read_some(&mut stream, &mut first)).await??;
    let decided = async {
        while first.len() < PREFACE.len() && PREFACE.starts_with(&first) {
            read_some(&mut stream, &mut first).await?;
        }
        io::Result::Ok(())
    };
    timeout(config.header_timeout.0, decided).await??;
    let protocol = if first == PREFACE { Protocol::Http2 } else { Protocol::Http1 };
    Ok((stream, protocol, first))
}

/// Reads no more than it takes to tell.
async fn read_some(stream: &mut TcpStream, first: &mut BytesMut) -> io::Result<()> {
    let room = PREFACE.len() - first.len();
    match stream.take(room as u64).read_buf(first).await? {
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        _ => Ok(()),
    }
}

async fn converse<T, S>(stream: T, protocol: Protocol, first: BytesMut, service: S, host: &Host)
where
    T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    S: Service,
{
    let config = &host.config;
    let watchdog = Watchdog::new(protocol, config.header_timeout.0, config.idle_timeout.0);
    match protocol {
        Protocol::Http1 => {
            let front = Front::new(stream, first, service.clone(), watchdog.marks());
            let connection = http1::Builder::new()
                .header_read_timeout(None)
                .max_buf_size((config.max_header_size.0 * HEAD_SLACK).max(64 * 1024))
                .max_headers(MAX_FIELDS)
                .serve_connection(TokioIo::new(watchdog.watch(front)), watchdog.service(service));
            drive(connection, http1::Connection::graceful_shutdown, &watchdog, host, Duration::ZERO).await;
        }
        Protocol::Http2 => {
            let streams = Streams::new(host.streams.clone());
            let _ended_with_the_connection = streams.guard();
            let io = TokioIo::new(watchdog.watch(Front::<_, S>::open(stream, first)));
            let connection = http2::builder(config, &streams).serve_connection(io, watchdog.service(Fitted(service)));
            drive(connection, hyper::server::conn::http2::Connection::graceful_shutdown, &watchdog, host, GOODBYE).await;
        }
    }
}

/// Runs a connection to its end. `finish` makes its requests under way the last ones; one that stands still is told so too, and given
/// `goodbye` to take notice.
async fn drive<C>(connection: C, finish: impl Fn(Pin<&mut C>), watchdog: &Watchdog, host: &Host, goodbye: Duration)
where
    C: Future<Output = hyper::Result<()>>,
{
    let mut connection = pin!(connection);
    let (mut stopping, mut barks) = (Aside::new(host.stopping.cancelled()), Aside::new(watchdog.barks()));
    let mut finishing = false;
    let ended = loop {
        tokio::select! {
            biased;
            ended = &mut connection => break ended,
            () = &mut stopping, if !finishing => {
                finishing = true;
                watchdog.stop();
                finish(connection.as_mut());
            }
            () = &mut barks => {
                tracing::debug!("a connection stood still for too long");
                watchdog.stop();
                finish(connection.as_mut());
                let _too_slow = timeout(goodbye, &mut connection).await;
                return;
            }
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection ended early");
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use http::request::Parts;
    use http::{Request, Response};
    use hyper::body::Incoming;
    use tokio::io::AsyncWriteExt;
    use tokio::time::advance;

    use super::super::Abort;
    use super::*;
    use crate::wire::body::{Body, full};

    const ANSWER: usize = 60 * 1024;

    /// Answers everything with as much, before the parser or behind it.
    #[derive(Clone)]
    struct Long {
        at_once: bool,
    }

    impl Service for Long {
        type Known = ();

        async fn call(&self, _: Request<Incoming>) -> Result<Response<Body>, Abort> {
            Ok(Response::new(full(vec![b'x'; ANSWER])))
        }

        fn know(&self, _: &Parts) -> Option<()> {
            self.at_once.then_some(())
        }

        fn at_once(&self, _: &str, (): &(), answers: &mut Vec<u8>) -> bool {
            answers.extend_from_slice(format!("HTTP/1.1 200 OK\r\ncontent-length: {ANSWER}\r\n\r\n").as_bytes());
            answers.resize(answers.len() + ANSWER, b'x');
            true
        }
    }

    fn host(config: Config) -> Host {
        Host { config: Arc::new(config), certificates: None, stopping: CancellationToken::new(), streams: TaskTracker::new() }
    }

    /// How much a client gets that takes 1 KiB each 25 ms, where connections may stand still for half a second.
    async fn taken_slowly(at_once: bool) -> usize {
        let (mut near, far) = tokio::io::duplex(1024);
        let config = Config { idle_timeout: crate::units::Span(Duration::from_millis(500)), ..Config::default() };
        tokio::spawn(async move { converse(far, Protocol::Http1, BytesMut::new(), Long { at_once }, &host(config)).await });
        near.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.expect("it reads");
        let (mut part, mut taken) = (vec![0; 1024], 0);
        while taken < ANSWER {
            match near.read(&mut part).await {
                Ok(0) | Err(_) => break,
                Ok(length) => taken += length,
            }
            // What was taken makes room, which is filled before time goes on.
            tokio::task::yield_now().await;
            advance(Duration::from_millis(25)).await;
        }
        taken
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_takes_its_answers_slowly_does_not_stand_still() {
        for at_once in [false, true] {
            assert!(taken_slowly(at_once).await >= ANSWER, "at once: {at_once}");
        }
    }

    /// Answers at once in editions of an odd number, and behind the parser in the others.
    #[derive(Clone)]
    struct Edited(Arc<AtomicU64>);

    impl Service for Edited {
        type Known = u64;

        async fn call(&self, _: Request<Incoming>) -> Result<Response<Body>, Abort> {
            Ok(Response::new(full("parsed")))
        }

        fn know(&self, _: &Parts) -> Option<u64> {
            Some(self.edition()).filter(|edition| edition % 2 == 1)
        }

        fn edition(&self) -> u64 {
            self.0.load(Ordering::SeqCst)
        }

        fn at_once(&self, _: &str, edition: &u64, answers: &mut Vec<u8>) -> bool {
            answers.extend_from_slice(format!("HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nfast {edition}").as_bytes());
            true
        }
    }

    #[tokio::test]
    async fn what_a_head_comes_to_is_worked_out_anew_in_each_edition_on_the_same_connection() {
        let (mut near, far) = tokio::io::duplex(1024);
        let edition = Arc::new(AtomicU64::new(1));
        let service = Edited(Arc::clone(&edition));
        tokio::spawn(async move { converse(far, Protocol::Http1, BytesMut::new(), service, &host(Config::default())).await });
        let mut answers = Vec::new();
        for now in [1, 1, 2, 2, 3, 3] {
            edition.store(now, Ordering::SeqCst);
            near.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.expect("it reads");
            let mut answer = BytesMut::new();
            while memchr::memmem::find(&answer, b"\r\n\r\n").is_none_or(|end| answer.len() < end + 4 + 6) {
                near.read_buf(&mut answer).await.expect("an answer");
            }
            answers.push(String::from_utf8_lossy(&answer[answer.len() - 6..]).into_owned());
        }
        assert_eq!(answers, ["fast 1", "fast 1", "parsed", "parsed", "fast 3", "fast 3"]);
    }
}
