//! An HTTP/2 client that sends whatever frames it is told to, and reads them one by one.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PING: u8 = 6;
pub(crate) const GOAWAY: u8 = 7;
pub(crate) const CONTINUATION: u8 = 9;

/// On HEADERS and DATA: nothing more of the request follows.
pub(crate) const END_STREAM: u8 = 1;
/// On SETTINGS and PING.
pub(crate) const ACK: u8 = 1;
/// On HEADERS and CONTINUATION: no more fields follow.
pub(crate) const END_HEADERS: u8 = 4;

/// One connection.
pub(crate) struct Frames(TcpStream);

/// A frame.
#[derive(Clone, Debug)]
pub(crate) struct Frame {
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) stream: u32,
    pub(crate) payload: Vec<u8>,
}

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// With this status; 0 stands for one that is not the first literal of its connection.
    Answered(u16),
    /// With this reason, and the connection goes on.
    Reset(u32),
    /// With the connection, and this reason if one was given.
    Ended(Option<u32>),
}

impl Frames {
    /// A connection that has begun as it should, with these settings: numbers and values.
    pub(crate) async fn with(address: SocketAddr, settings: &[(u16, u32)]) -> Self {
        let mut stream = TcpStream::connect(address).await.expect("the server listens");
        let payload = settings.iter().flat_map(|(id, value)| [&id.to_be_bytes()[..], &value.to_be_bytes()].concat()).collect();
        let first = Frame { kind: SETTINGS, flags: 0, stream: 0, payload };
        stream.write_all(&[b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", &first.bytes()[..]].concat()).await.expect("the server reads");
        Self(stream)
    }

    pub(crate) async fn to(address: SocketAddr) -> Self {
        Self::with(address, &[]).await
    }

    /// Sends as much as the server takes: it may end the connection before it has read all.
    pub(crate) async fn send(&mut self, frames: &[Frame]) {
        let _refused = self.0.write_all(&frames.iter().flat_map(Frame::bytes).collect::<Vec<_>>()).await;
    }

    /// The next frame; none if the connection has ended.
    pub(crate) async fn next(&mut self) -> Option<Frame> {
        let mut head = [0; 9];
        self.0.read_exact(&mut head).await.ok()?;
        let [a, b, c, kind, flags, stream @ ..] = head;
        let mut payload = vec![0; u32::from_be_bytes([0, a, b, c]) as usize];
        self.0.read_exact(&mut payload).await.ok()?;
        Some(Frame { kind, flags, stream: u32::from_be_bytes(stream), payload })
    }

    /// The next frame of a kind, if it comes.
    pub(crate) async fn next_of(&mut self, kind: u8) -> Option<Frame> {
        while let Some(frame) = self.next().await {
            if frame.kind == kind {
                return Some(frame);
            }
        }
        None
    }

    /// What becomes of a request; the body of its answer is not waited for.
    pub(crate) async fn outcome(&mut self, stream: u32) -> Outcome {
        let mut reason = None;
        while let Some(frame) = self.next().await {
            match frame.kind {
                HEADERS if frame.stream == stream => return Outcome::Answered(frame.status()),
                RST_STREAM if frame.stream == stream => return Outcome::Reset(frame.reason()),
                GOAWAY => reason = Some(frame.reason()),
                _ => {}
            }
        }
        Outcome::Ended(reason)
    }

    /// Waits until the server has ended the connection; the reasons it gave.
    pub(crate) async fn ended(mut self) -> Vec<u32> {
        let mut reasons = Vec::new();
        while let Some(frame) = self.next_of(GOAWAY).await {
            reasons.push(frame.reason());
        }
        reasons
    }

    /// A sign of life that means nothing.
    pub(crate) async fn ping(&mut self) {
        self.send(&[Frame { kind: PING, flags: 0, stream: 0, payload: vec![0; 8] }]).await;
    }

    /// Sends pings until the server ends the connection.
    pub(crate) async fn ping_until_ended(self) {
        let (mut from_server, mut to_server) = self.0.into_split();
        let (ping, mut answer) = (Frame { kind: PING, flags: 0, stream: 0, payload: vec![0; 8] }.bytes(), [0; 1024]);
        loop {
            tokio::select! {
                biased;
                read = from_server.read(&mut answer) => if matches!(read, Ok(0) | Err(_)) { return },
                _refused = to_server.write_all(&ping) => tokio::task::yield_now().await,
            }
        }
    }
}

impl Frame {
    /// A frame of a request's fields, none of them compressed.
    pub(crate) fn fields(kind: u8, flags: u8, stream: u32, fields: &[(&str, &str)]) -> Self {
        let text = |text: &str| {
            let mut bytes = vec![u8::try_from(text.len()).ok().filter(|length| *length < 127).expect("a short text")];
            bytes.extend(text.bytes());
            bytes
        };
        let payload = fields.iter().flat_map(|(name, value)| [vec![0], text(name), text(value)].concat()).collect();
        Self { kind, flags, stream, payload }
    }

    /// A GET that is whole.
    pub(crate) fn get(stream: u32, path: &str) -> Self {
        let fields = [(":method", "GET"), (":scheme", "http"), (":authority", "gateway"), (":path", path)];
        Self::fields(HEADERS, END_HEADERS | END_STREAM, stream, &fields)
    }

    /// Takes a request back.
    pub(crate) fn cancel(stream: u32) -> Self {
        Self { kind: RST_STREAM, flags: 0, stream, payload: 8_u32.to_be_bytes().to_vec() }
    }

    fn bytes(&self) -> Vec<u8> {
        let length = u32::try_from(self.payload.len()).expect("a short payload").to_be_bytes();
        [&length[1..], &[self.kind, self.flags], &self.stream.to_be_bytes(), &self.payload].concat()
    }

    /// Of HEADERS with an answer: its status stands first, as an entry of HPACK's table (RFC 7541, A) or as a literal.
    fn status(&self) -> u16 {
        // Changes of the table's size come before all fields.
        let sizes = self.payload.iter().take_while(|byte| **byte >> 5 == 1).count();
        match &self.payload[sizes..] {
            [entry @ 0x88..=0x8e, ..] => [200, 204, 206, 304, 400, 404, 500][usize::from(entry - 0x88)],
            [0x08 | 0x18 | 0x48, length, value @ ..] if length & 0x80 != 0 => huffman_digits(&value[..usize::from(length & 0x7f)]),
            [0x08 | 0x18 | 0x48, 3, value @ ..] => value[..3].iter().fold(0, |number, digit| number * 10 + u16::from(digit - b'0')),
            _ => 0,
        }
    }

    /// Of `RST_STREAM` or GOAWAY.
    fn reason(&self) -> u32 {
        let last = if self.kind == GOAWAY { &self.payload[4..8] } else { &self.payload[..4] };
        u32::from_be_bytes(last.try_into().expect("four bytes"))
    }
}

/// A status in HPACK's Huffman code (RFC 7541, B): 0 to 2 have five bits, the other digits six.
fn huffman_digits(code: &[u8]) -> u16 {
    let mut bits = code.iter().flat_map(|byte| (0..8).rev().map(move |bit| u16::from(byte >> bit & 1)));
    let mut number = 0;
    for _ in 0..3 {
        let short = bits.by_ref().take(5).fold(0, |code, bit| code << 1 | bit);
        let digit = if short < 3 { short } else { (short << 1 | bits.next().expect("a sixth bit")) - 0b01_0110 };
        number = number * 10 + digit;
    }
    number
}
