//! A connection on which bytes are written as they are, and answers read one by one.

use std::net::SocketAddr;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

/// One connection.
pub(crate) struct Wire(BufReader<TcpStream>);

/// An answer as text.
#[derive(Debug)]
pub(crate) struct Raw {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Wire {
    pub(crate) async fn to(address: SocketAddr) -> Self {
        Self(BufReader::new(TcpStream::connect(address).await.expect("the server listens")))
    }

    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.0.get_mut().write_all(bytes.as_ref()).await.expect("the server reads");
    }

    /// Sends as much as the server takes: it may end the connection before it has read all.
    pub(crate) async fn send_while_taken(&mut self, bytes: impl AsRef<[u8]>) {
        let _refused = self.0.get_mut().write_all(bytes.as_ref()).await;
    }

    /// The next answer, by its `Content-Length`.
    pub(crate) async fn answer(&mut self) -> Raw {
        let mut raw = self.head().await;
        raw.body = self.body(&raw).await;
        raw
    }

    /// The body behind a head.
    pub(crate) async fn body(&mut self, head: &Raw) -> String {
        let length: usize = head.field("content-length").parse().unwrap_or(0);
        let mut body = vec![0; length];
        self.0.read_exact(&mut body).await.expect("a whole body");
        String::from_utf8(body).expect("text")
    }

    /// The next answer's head alone: an interim answer, or one to HEAD.
    pub(crate) async fn head(&mut self) -> Raw {
        self.next_head().await.expect("the connection ended before an answer")
    }

    /// The same, or none if the server ends the connection instead.
    pub(crate) async fn next_head(&mut self) -> Option<Raw> {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            match self.0.read_line(&mut head).await {
                Ok(read) if read > 0 => {}
                // Bytes that the server did not read before it closed make the kernel reset the connection.
                Ok(_) | Err(_) if head.is_empty() => return None,
                ended => panic!("the connection ended within a head: {head:?}: {ended:?}"),
            }
        }
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status line");
        Some(Raw { status, head: head.to_ascii_lowercase(), body: String::new() })
    }

    /// The next line of a body.
    pub(crate) async fn line(&mut self) -> String {
        let mut line = String::new();
        self.0.read_line(&mut line).await.expect("text");
        line.trim_end_matches("\r\n").to_owned()
    }

    /// Reads so many bytes of a body, and keeps none.
    pub(crate) async fn skip(&mut self, length: usize) {
        let mut body = (&mut self.0).take(length as u64);
        let skipped = tokio::io::copy_buf(&mut body, &mut tokio::io::sink()).await.expect("the server writes");
        assert_eq!(skipped, length as u64);
    }

    /// Sends bytes until they are taken, or until an answer comes: its status.
    pub(crate) async fn status_or_taken(&mut self, bytes: &[u8]) -> Option<u16> {
        let (from_server, mut to_server) = self.0.get_mut().split();
        tokio::select! {
            biased;
            readable = from_server.readable() => readable.expect("the connection stands"),
            taken = to_server.write_all(bytes) => return taken.map_or(Some(0), |()| None),
        }
        Some(self.head().await.status)
    }

    /// Whether the server takes these bytes, as far as can be seen.
    pub(crate) async fn takes(&mut self, bytes: &[u8]) -> bool {
        self.0.get_mut().write_all(bytes).await.is_ok()
    }

    /// Waits until the server has ended the connection, without having sent anything more.
    pub(crate) async fn ended(mut self) {
        let mut rest = Vec::new();
        match self.0.read_to_end(&mut rest).await {
            Ok(_) => assert!(rest.is_empty(), "more came: {}", String::from_utf8_lossy(&rest)),
            // Bytes that the server did not read before it closed make the kernel reset the connection.
            Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset),
        }
    }
}

impl Wire {
    /// Sends `start`, and then one byte after the other until the server ends the connection, without an answer.
    pub(crate) async fn trickle(mut self, start: &str, byte: u8) {
        self.send(start).await;
        let (mut from_server, mut to_server) = self.0.into_inner().into_split();
        let (byte, mut answer) = ([byte], [0]);
        loop {
            tokio::select! {
                biased;
                read = from_server.read(&mut answer) => match read {
                    Ok(length) => return assert_eq!(length, 0, "an answer came"),
                    Err(error) => return assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset),
                },
                _refused = to_server.write_all(&byte) => tokio::task::yield_now().await,
            }
        }
    }
}

impl Raw {
    /// A field's value, or nothing.
    pub(crate) fn field(&self, name: &str) -> &str {
        self.head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": ")).unwrap_or_default()
    }

    /// The error's code.
    pub(crate) fn code(&self) -> String {
        let body: serde_json::Value = serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"));
        body["errors"][0]["code"].as_str().unwrap_or_default().to_owned()
    }
}
