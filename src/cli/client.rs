//! A client of a running gateway's admin listener: one connection, one request, one answer.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use bytes::Bytes;
use clap::Args;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HOST};
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use serde::de::{DeserializeOwned, IgnoredAny};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};

use super::{Failed, Source, announce, runtime};
use crate::secret::{Revealed, Secret};

/// A gateway that takes longer to say that it is ready is not.
const HEALTH_LIMIT: Duration = Duration::from_secs(3);

/// How long any other request may take: a change waits for the ledger's disk.
const LIMIT: Duration = Duration::from_secs(10);

/// Where a running gateway's admin listener is.
#[derive(Debug, Args)]
pub(super) struct Place {
    #[command(flatten)]
    source: Source,
    /// The admin listener, if not the configuration's.
    #[arg(long, value_name = "ADDR", global = true)]
    admin_listen: Option<SocketAddr>,
}

/// Asks one admin listener.
pub(super) struct Client {
    address: SocketAddr,
    token: Option<Revealed>,
    limit: Duration,
}

/// What an admin listener answered, whatever its status.
struct Reply {
    status: StatusCode,
    body: Bytes,
}

/// JSON that an admin listener answered with.
pub(super) struct Answer {
    address: SocketAddr,
    status: StatusCode,
    json: String,
}

/// Why a request has no answer that can be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum NoAnswer {
    /// Nothing was sent.
    #[error("no gateway answers at {address} ({why}): start it, or name its admin listener with --admin-listen ADDR")]
    Unreachable { address: SocketAddr, why: String },
    /// The connection was made, and no whole answer came over it.
    #[error("{address} gave no whole answer ({why}){}", if *.changes { ": the change may be made all the same, so look before asking again" } else { "" })]
    Lost { address: SocketAddr, why: String, changes: bool },
    /// The gateway says why.
    #[error("{0}")]
    Refused(String),
    /// Something else listens there, or another version.
    #[error("{address} answers {status}, and not as an admin listener of this version does")]
    Strange { address: SocketAddr, status: StatusCode },
    /// The request cannot be made.
    #[error("the request cannot be made: {0}")]
    Request(#[from] http::Error),
    /// Not even a runtime can be had.
    #[error("{0}")]
    Io(#[from] std::io::Error),
}

/// The envelope of errors, as far as it is shown.
#[derive(Deserialize)]
struct Problems {
    errors: Vec<Problem>,
}

#[derive(Deserialize)]
struct Problem {
    detail: String,
}

/// `health`
#[derive(Debug, Args)]
pub(super) struct Health {
    #[command(flatten)]
    place: Place,
    /// Print whether it is ready, and what it says, as JSON.
    #[arg(long)]
    json: bool,
}

impl Health {
    /// Succeeds if the gateway is ready.
    pub(super) fn run(&self) -> Result<(), Failed> {
        let asked = self.place.readiness();
        if self.json {
            let said = asked.as_ref().map_or_else(ToString::to_string, Clone::clone);
            announce(&json!({ "ready": asked.is_ok(), "detail": said }).to_string())?;
        }
        asked.map(drop)
    }
}

impl Place {
    /// What the gateway says of being ready, if it is.
    fn readiness(&self) -> Result<String, Failed> {
        // Neither a token nor, where the address is given, a configuration is needed to ask.
        let address = match self.admin_listen {
            Some(address) => address,
            None => self.source.load()?.admin.listen,
        };
        let client = Client::new(address, None, HEALTH_LIMIT);
        let reply = client.send(Method::GET, "/readyz", None).map_err(|error| Failed::NotReady(error.to_string()))?;
        if reply.status != StatusCode::OK {
            return Err(Failed::NotReady(format!("{} answers {}", client.address, reply.status)));
        }
        Ok(String::from_utf8_lossy(&reply.body).trim_end().to_owned())
    }

    /// A client that presents the token of the configuration.
    pub(super) fn client(&self) -> Result<Client, Failed> {
        let admin = self.source.load()?.admin;
        let token = admin.token.as_ref().map(Secret::read).transpose()?;
        Ok(Client::new(self.admin_listen.unwrap_or(admin.listen), token, LIMIT))
    }
}

impl Client {
    /// An address that means every interface is asked on loopback.
    fn new(mut address: SocketAddr, token: Option<Revealed>, limit: Duration) -> Self {
        if address.ip().is_unspecified() {
            address.set_ip(if address.is_ipv4() { Ipv4Addr::LOCALHOST.into() } else { Ipv6Addr::LOCALHOST.into() });
        }
        Self { address, token, limit }
    }

    /// Asks for something.
    pub(super) fn get(&self, path: &str) -> Result<Answer, NoAnswer> {
        self.accepted(self.send(Method::GET, path, None)?)
    }

    /// Asks for a change.
    pub(super) fn post(&self, path: &str, body: &Value) -> Result<Answer, NoAnswer> {
        self.accepted(self.send(Method::POST, path, Some(body))?)
    }

    fn accepted(&self, reply: Reply) -> Result<Answer, NoAnswer> {
        let strange = NoAnswer::Strange { address: self.address, status: reply.status };
        if !reply.status.is_success() {
            let said = serde_json::from_slice::<Problems>(&reply.body).ok().and_then(|problems| problems.errors.into_iter().next());
            return Err(said.map_or(strange, |problem| NoAnswer::Refused(problem.detail)));
        }
        match String::from_utf8(reply.body.into()) {
            Ok(json) if serde_json::from_str::<IgnoredAny>(&json).is_ok() => {
                Ok(Answer { address: self.address, status: reply.status, json })
            }
            _ => Err(strange),
        }
    }

    fn send(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Reply, NoAnswer> {
        let changes = method != Method::GET;
        let mut request = Request::builder().method(method).uri(path).header(HOST, self.address.to_string());
        if let Some(token) = &self.token {
            request = request.header(AUTHORIZATION, format!("Bearer {}", token.expose()));
        }
        if body.is_some() {
            request = request.header(CONTENT_TYPE, "application/json");
        }
        let request = request.body(Full::new(Bytes::from(body.map(Value::to_string).unwrap_or_default())))?;
        runtime(1)?.block_on(async {
            let end = Instant::now() + self.limit;
            let unreachable = |why: String| NoAnswer::Unreachable { address: self.address, why };
            let lost = |why: String| NoAnswer::Lost { address: self.address, why, changes };
            let late = || format!("nothing within {} s", self.limit.as_secs());
            let connected = timeout_at(end, TcpStream::connect(self.address)).await.map_err(|_| unreachable(late()))?;
            let stream = connected.map_err(|error| unreachable(error.to_string()))?;
            timeout_at(end, exchange(stream, request)).await.map_err(|_| lost(late()))?.map_err(|error| lost(error.to_string()))
        })
    }
}

async fn exchange(stream: TcpStream, request: Request<Full<Bytes>>) -> Result<Reply, hyper::Error> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    let (head, body) = sender.send_request(request).await?.into_parts();
    Ok(Reply { status: head.status, body: body.collect().await?.to_bytes() })
}

impl Answer {
    /// The JSON as it came.
    pub(super) fn json(&self) -> &str {
        self.json.trim_end()
    }

    /// What the JSON says.
    pub(super) fn read<T: DeserializeOwned>(&self) -> Result<T, NoAnswer> {
        serde_json::from_str(&self.json).map_err(|_| NoAnswer::Strange { address: self.address, status: self.status })
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::io::{BufRead, BufReader, Read, Write};
    use std::net::TcpListener;
    use std::thread::JoinHandle;

    use super::*;

    /// A listener that answers one request, and gives back what it heard: the head, and the body.
    pub(in crate::cli) fn listener(answer: &str) -> (SocketAddr, JoinHandle<(String, String)>) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let (address, answer) = (listener.local_addr().expect("an address"), answer.to_owned());
        let heard = std::thread::spawn(move || {
            let mut stream = BufReader::new(listener.accept().expect("a connection").0);
            let mut head = String::new();
            while !head.ends_with("\r\n\r\n") {
                assert!(stream.read_line(&mut head).expect("text") > 0, "the connection ended within a head: {head:?}");
            }
            let length =
                head.lines().find_map(|line| line.strip_prefix("content-length: ")).map_or(0, |length| length.parse().expect("a length"));
            let mut body = vec![0; length];
            stream.read_exact(&mut body).expect("a whole body");
            stream.get_mut().write_all(answer.as_bytes()).expect("the client reads");
            (head, String::from_utf8(body).expect("text"))
        });
        (address, heard)
    }

    /// An answer with this status and body.
    pub(in crate::cli) fn answered(status: &str, body: &str) -> String {
        format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n{body}", body.len())
    }

    fn asked(answer: &str) -> Result<Answer, NoAnswer> {
        Client::new(listener(answer).0, None, LIMIT).get("/admin/v1/budgets")
    }

    fn why(answer: &str) -> String {
        asked(answer).map(|answer| answer.json).expect_err("a failure").to_string()
    }

    #[test]
    fn a_change_goes_out_as_json_with_the_token() {
        let (address, request) = listener(&answered("201 Created", "{\"data\":1}\n"));
        let token = Secret::Plain("T0KEN".to_owned()).read().expect("a plain secret");
        let answer = Client::new(address, Some(token), LIMIT).post("/admin/v1/kill-switch", &json!({ "on": true }));
        assert_eq!(answer.expect("an answer").json(), "{\"data\":1}");
        let (head, body) = request.join().expect("nothing panics");
        assert!(head.starts_with("POST /admin/v1/kill-switch HTTP/1.1\r\n"), "{head}");
        for field in [&format!("host: {address}"), "authorization: Bearer T0KEN", "content-type: application/json"] {
            assert!(head.lines().any(|line| line == field), "{field} is not in {head}");
        }
        assert_eq!(body, r#"{"on":true}"#);
    }

    #[test]
    fn a_question_has_neither_body_nor_token() {
        let (address, request) = listener(&answered("200 OK", "{}"));
        Client::new(address, None, LIMIT).get("/admin/v1/budgets").map(|_| ()).expect("an answer");
        let (head, body) = request.join().expect("nothing panics");
        assert!(head.starts_with("GET /admin/v1/budgets HTTP/1.1\r\n"), "{head}");
        assert!(!head.contains("authorization") && !head.contains("content-type") && body.is_empty(), "{head}{body}");
    }

    #[test]
    fn every_interface_is_asked_on_loopback() {
        for (listen, asked) in [("0.0.0.0:81", "127.0.0.1:81"), ("[::]:81", "[::1]:81"), ("10.0.0.7:81", "10.0.0.7:81")] {
            let client = Client::new(listen.parse().expect("an address"), None, LIMIT);
            assert_eq!(client.address.to_string(), asked);
        }
    }

    #[test]
    fn a_refusal_is_told_in_the_gateways_words() {
        let refusal = r#"{"errors":[{"code":"not_found","title":"Admin","detail":"there is no budget \"dya\""}],"gateway":{}}"#;
        assert_eq!(why(&answered("404 Not Found", refusal)), "there is no budget \"dya\"");
    }

    #[test]
    fn what_is_no_gateway_is_not_taken_for_one() {
        for answer in
            [answered("200 OK", "<html>"), answered("404 Not Found", "nothing here"), answered("400 Bad Request", "{\"errors\":[]}")]
        {
            assert!(why(&answer).contains("not as an admin listener of this version"), "{answer}");
        }
        let answer = asked(&answered("200 OK", "{\"data\":[]}")).expect("JSON");
        assert!(matches!(answer.read::<Problems>(), Err(NoAnswer::Strange { status: StatusCode::OK, .. })));
    }

    #[test]
    fn a_listener_that_is_not_there_is_named_with_the_way_to_another() {
        let address = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a free port");
        let error = Client::new(address, None, LIMIT).get("/").map(|answer| answer.json).expect_err("nobody listens").to_string();
        assert!(error.contains(&address.to_string()) && error.contains("--admin-listen ADDR"), "{error}");
    }

    #[test]
    fn a_change_whose_answer_is_lost_may_be_made() {
        let (address, _request) = listener("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{");
        let error = Client::new(address, None, LIMIT).post("/", &json!({})).map(|answer| answer.json).expect_err("half an answer");
        assert!(error.to_string().ends_with("look before asking again"), "{error}");
        assert!(why("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{").contains("no whole answer"));
        let silent = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let client = Client::new(silent.local_addr().expect("an address"), None, Duration::from_millis(20));
        assert!(matches!(client.post("/", &json!({})), Err(NoAnswer::Lost { changes: true, .. })));
    }
}
