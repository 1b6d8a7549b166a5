//! How a request can end, against listeners that misbehave.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::*;

fn client(base_url: &str) -> Client {
    let millis = |millis| crate::units::Span(Duration::from_millis(millis));
    let config = Config {
        base_url: base_url.parse().expect("a URL"),
        connect_timeout: millis(100),
        timeout: millis(300),
        queue_timeout: millis(50),
        max_in_flight: 1,
        ..Config::default()
    };
    Client::new(&config, &Clock::system()).expect("certificates")
}

fn key() -> Credential {
    Credential::Own(HeaderValue::from_static("Bearer key"))
}

async fn asked(client: &Client) -> Outcome {
    sent(client, &Message::get("/x")).await
}

async fn sent(client: &Client, message: &Message) -> Outcome {
    let context = Context { credential: key(), request_id: HeaderValue::from_static("1"), trace: None };
    client.send(client.place(Errand::Free, &key()).await.expect("a place"), message, &context).await
}

/// Listens, answers each connection with these bytes once some have come, and then ends it, or stays.
async fn upstream(answer: &'static [u8], stays: bool) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        let mut open = Vec::new();
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut head = [0; 4096];
            if stream.read(&mut head).await.is_ok() && stream.write_all(answer).await.is_ok() && stays {
                open.push(stream);
            }
        }
    });
    address
}

#[tokio::test]
async fn a_connection_that_is_refused_or_whose_handshake_stalls_has_sent_nothing() {
    let free = TcpListener::bind("127.0.0.1:0").await.expect("a free port").local_addr().expect("an address");
    let refused = asked(&client(&format!("http://{free}/v2"))).await;
    assert!(matches!(refused, Outcome::NotSent(NotSent::Unreachable)), "{refused:?}");
    let silent = upstream(b"", true).await;
    let stalled = asked(&client(&format!("https://{silent}/v2"))).await;
    assert!(matches!(stalled, Outcome::NotSent(NotSent::Unreachable)), "{stalled:?}");
    let garbled = upstream(b"no TLS", false).await;
    let refused = asked(&client(&format!("https://{garbled}/v2"))).await;
    assert!(matches!(refused, Outcome::NotSent(NotSent::Unreachable)), "{refused:?}");
}

#[tokio::test]
async fn an_answer_that_does_not_come_or_breaks_off_leaves_the_outcome_unknown() {
    let silent = upstream(b"", true).await;
    let late = asked(&client(&format!("http://{silent}/v2"))).await;
    assert!(matches!(late, Outcome::Unknown(Lost::TimedOut)), "{late:?}");
    for cut in [&b""[..], b"HTTP/1.1 200", b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{}"] {
        let broken = upstream(cut, false).await;
        let outcome = asked(&client(&format!("http://{broken}/v2"))).await;
        assert!(matches!(outcome, Outcome::Unknown(Lost::Cut)), "{outcome:?}");
    }
}

#[tokio::test]
async fn a_message_with_a_body_has_the_same_three_ends_and_follows_no_redirect() {
    let message = Message::post("/x", r#"{"a":1}"#);
    let free = TcpListener::bind("127.0.0.1:0").await.expect("a free port").local_addr().expect("an address");
    let refused = sent(&client(&format!("http://{free}/v2")), &message).await;
    assert!(matches!(refused, Outcome::NotSent(NotSent::Unreachable)), "{refused:?}");
    let silent = upstream(b"", true).await;
    let late = sent(&client(&format!("http://{silent}/v2")), &message).await;
    assert!(matches!(late, Outcome::Unknown(Lost::TimedOut)), "{late:?}");
    let elsewhere = upstream(b"HTTP/1.1 307 X\r\nlocation: /v2/y\r\ncontent-length: 0\r\n\r\n", true).await;
    let Outcome::Answered(answer) = sent(&client(&format!("http://{elsewhere}/v2")), &message).await else { panic!("no answer") };
    assert_eq!(answer.status.as_u16(), 307);
}

#[tokio::test]
async fn an_answer_in_an_encoding_nobody_asked_for_has_a_status_and_no_body() {
    let encoded = upstream(b"HTTP/1.1 422 X\r\ncontent-encoding: gzip\r\ncontent-length: 2\r\n\r\nxx", false).await;
    let Outcome::Answered(answer) = asked(&client(&format!("http://{encoded}/v2"))).await else { panic!("no answer") };
    assert_eq!((answer.status.as_u16(), answer.body.len()), (422, 0));
}

#[tokio::test]
async fn who_finds_no_place_in_time_has_sent_nothing() {
    let client = client("http://127.0.0.1:9/v2");
    let place = client.place(Errand::Free, &key()).await.expect("the only place");
    assert!(matches!(client.place(Errand::Free, &key()).await, Err(NotSent::Crowded)));
    drop(place);
    assert!(client.place(Errand::Free, &key()).await.is_ok());
}

/// Answers every request on every connection; tells how many connections there were.
async fn lasting() -> (SocketAddr, Arc<std::sync::atomic::AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("an address");
    let connections = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let count = Arc::clone(&connections);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            count.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            tokio::spawn(async move {
                let mut head = [0; 4096];
                while stream.read(&mut head).await.is_ok_and(|length| length > 0) {
                    stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}").await.expect("the client reads");
                }
            });
        }
    });
    (address, connections)
}

#[tokio::test]
async fn a_connection_past_its_lifetime_is_not_used_again() {
    let (address, connections) = lasting().await;
    let clock = Clock::manual("2026-03-24T12:00:00Z".parse().expect("a time"));
    let base_url = format!("http://{address}/v2").parse().expect("a URL");
    let lifetime = Duration::from_mins(5);
    let config = Config { base_url, connection_lifetime: crate::units::Span(lifetime), ..Config::default() };
    let client = Client::new(&config, &clock).expect("certificates");
    let made = async || {
        assert!(matches!(asked(&client).await, Outcome::Answered(_)));
        connections.load(std::sync::atomic::Ordering::Relaxed)
    };
    assert_eq!((made().await, made().await), (1, 1));
    clock.advance(lifetime);
    assert_eq!(made().await, 1, "its last request");
    assert_eq!((made().await, made().await), (2, 2));
}
