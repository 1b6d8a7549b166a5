//! A gate in front of an upstream: requests pass, answers wait until it is open.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// An open gate at first.
pub(crate) struct Gate {
    pub(crate) address: SocketAddr,
    open: watch::Sender<bool>,
}

impl Gate {
    /// A gate before `upstream`.
    pub(crate) async fn before(upstream: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let (open, is_open) = watch::channel(true);
        tokio::spawn(async move {
            while let Ok((callers, _)) = listener.accept().await {
                tokio::spawn(pass(callers, upstream, is_open.clone()));
            }
        });
        Self { address, open }
    }

    /// Lets answers wait from now on.
    pub(crate) fn close(&self) {
        self.open.send_replace(false);
    }

    /// Lets the answers that waited through, and those that come.
    pub(crate) fn open(&self) {
        self.open.send_replace(true);
    }
}

async fn pass(callers: TcpStream, upstream: SocketAddr, mut is_open: watch::Receiver<bool>) {
    let Ok(upstream) = TcpStream::connect(upstream).await else { return };
    let (mut requests, mut answers) = callers.into_split();
    let (mut from_upstream, mut to_upstream) = upstream.into_split();
    let forth = async { tokio::io::copy(&mut requests, &mut to_upstream).await.map(drop) };
    let back = async {
        let mut bytes = vec![0; 64 * 1024];
        loop {
            let length = from_upstream.read(&mut bytes).await?;
            if length == 0 || is_open.wait_for(|open| *open).await.is_err() {
                return std::io::Result::Ok(());
            }
            answers.write_all(&bytes[..length]).await?;
        }
    };
    // Whichever side ends first ends both.
    tokio::select! {
        _ended = forth => {}
        _ended = back => {}
    }
}
