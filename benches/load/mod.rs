//! Callers who ask one thing after the other, each over a connection of its own that stays, and how long they wait.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::{BodyExt as _, Empty};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use reputation_gateway::clock::Clock;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

/// One that stays.
pub(crate) type Connection = SendRequest<Empty<Bytes>>;

/// What is asked, and the decision that its answer names.
pub(crate) type Ask = (Request<Empty<Bytes>>, &'static str);

/// A request for this path of the gateway's.
pub(crate) fn get(path: &str) -> Request<Empty<Bytes>> {
    Request::get(path).header("host", "gateway").body(Empty::new()).expect("a request")
}

/// Connects without TLS.
pub(crate) async fn connect(address: SocketAddr) -> Connection {
    let stream = TcpStream::connect(address).await.expect("it listens");
    stream.set_nodelay(true).expect("a connection");
    over(stream).await
}

/// A connection over this stream.
pub(crate) async fn over(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) -> Connection {
    let (sender, connection) = handshake(TokioIo::new(stream)).await.expect("HTTP");
    tokio::spawn(connection);
    sender
}

/// Sends a request and asserts that its answer names this decision.
pub(crate) async fn call(connection: &mut Connection, (request, decision): Ask) {
    connection.ready().await.expect("an open connection");
    let (head, body) = connection.send_request(request).await.expect("an answer").into_parts();
    let body = body.collect().await.expect("a whole body").to_bytes();
    let named = head.headers.get("x-gateway-decision").map(|value| value.to_str().expect("text"));
    assert_eq!((head.status, named), (StatusCode::OK, Some(decision)), "{:?}", body.slice(..body.len().min(500)));
}

/// Lets each caller ask what `ask` says, by the caller's number and that of its call, until that is nothing. `every` is the time from one
/// call of a caller to its next; with none it asks again as soon as it is answered.
pub(crate) async fn load<A>(connections: Vec<Connection>, every: Duration, ask: A) -> Calls
where
    A: Fn(usize, usize) -> Option<Ask> + Clone + Send + 'static,
{
    let clock = Clock::system();
    let began = clock.elapsed();
    let callers = u32::try_from(connections.len()).expect("few callers");
    let mut tasks = JoinSet::new();
    for (caller, mut connection) in connections.into_iter().enumerate() {
        let (clock, ask) = (clock.clone(), ask.clone());
        // Not all at once.
        let mut due = began + every * u32::try_from(caller).expect("few callers") / callers;
        tasks.spawn(async move {
            let (mut latencies, mut answered) = (Vec::new(), began);
            while let Some(asked) = ask(caller, latencies.len()) {
                // A timer is as coarse as a millisecond, also one that is due already.
                if due > clock.elapsed() {
                    tokio::time::sleep(due.saturating_sub(clock.elapsed())).await;
                }
                let sent = clock.elapsed();
                call(&mut connection, asked).await;
                // Who still waited for an answer when the next call was due has waited for that one since.
                let from = if answered > due && !every.is_zero() { due } else { sent };
                answered = clock.elapsed();
                latencies.push(answered.saturating_sub(from));
                due += every;
            }
            latencies
        });
    }
    let mut latencies = tasks.join_all().await.concat();
    let took = clock.elapsed().saturating_sub(began);
    latencies.sort_unstable();
    Calls { took, latencies }
}

/// Calls that were answered.
pub(crate) struct Calls {
    took: Duration,
    /// In order of length.
    latencies: Vec<Duration>,
}

impl Calls {
    /// All of several runs together.
    pub(crate) fn all(runs: impl IntoIterator<Item = Self>) -> Self {
        let mut all = Self { took: Duration::ZERO, latencies: Vec::new() };
        for run in runs {
            all.took += run.took;
            all.latencies.extend(run.latencies);
        }
        all.latencies.sort_unstable();
        all
    }

    /// How many there were.
    pub(crate) fn count(&self) -> usize {
        self.latencies.len()
    }

    /// Calls a second.
    #[expect(clippy::cast_precision_loss, reason = "counts of calls are small")]
    pub(crate) fn pace(&self) -> f64 {
        self.count() as f64 / self.took.as_secs_f64()
    }

    /// The latency in milliseconds that so many in a thousand did not exceed.
    pub(crate) fn at(&self, per_mille: usize) -> f64 {
        self.latencies[(self.count() * per_mille / 1000).min(self.count() - 1)].as_secs_f64() * 1e3
    }
}
