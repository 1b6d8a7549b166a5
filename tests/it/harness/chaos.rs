//! A proxy before a Redis: it cuts, freezes or slows what passes, by order or at a request that holds a certain text.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::sync::watch;

/// What becomes of what passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Weather {
    Fair,
    /// Nothing passes, and nothing is lost.
    Frozen,
    /// Each answer takes so much longer.
    Slow(Duration),
    /// Connections are cut, and so are new ones.
    Cut,
}

/// When a connection is cut that carries a certain request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Moment {
    /// The server has not seen the request.
    Before,
    /// The server has answered it, and the answer is lost.
    After,
}

/// The proxy.
pub(crate) struct Chaos {
    pub(crate) address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    weather: watch::Sender<Weather>,
    trap: Mutex<Option<(String, Moment)>>,
}

impl Chaos {
    /// A proxy before the server with this socket. The weather is fair.
    pub(crate) async fn before(socket: &Path) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let shared = Arc::new(Shared { weather: watch::Sender::new(Weather::Fair), trap: Mutex::default() });
        let (passing, socket) = (Arc::clone(&shared), socket.to_owned());
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(pass(client, socket.clone(), Arc::clone(&passing)));
            }
        });
        Self { address, shared }
    }

    /// Changes the weather, for connections that stand too.
    pub(crate) fn set(&self, weather: Weather) {
        self.shared.weather.send_replace(weather);
    }

    /// Cuts all connections at the next request that holds this text, and lets none through until the weather is changed.
    pub(crate) fn cut_at(&self, text: &str, moment: Moment) {
        *self.shared.trap.lock().expect("unpoisoned") = Some((text.to_owned(), moment));
    }

    /// Waits until everything is cut.
    pub(crate) async fn is_cut(&self) {
        let mut weather = self.shared.weather.subscribe();
        weather.wait_for(|weather| *weather == Weather::Cut).await.expect("it is here");
    }
}

impl Shared {
    /// What is to become of a request.
    fn trapped(&self, request: &[u8]) -> Option<Moment> {
        let mut trap = self.trap.lock().expect("unpoisoned");
        trap.take_if(|(text, _)| request.windows(text.len()).any(|part| part == text.as_bytes())).map(|(_, moment)| moment)
    }

    fn cut(&self) {
        self.weather.send_replace(Weather::Cut);
    }

    /// Waits until something may pass. Answers also wait for what the weather takes.
    async fn clear(&self, is_answer: bool) {
        let mut changes = self.weather.subscribe();
        let weather = *changes.wait_for(|weather| *weather != Weather::Frozen).await.expect("it is here");
        if let Weather::Slow(longer) = weather
            && is_answer
        {
            tokio::time::sleep(longer).await;
        }
    }
}

async fn pass(client: TcpStream, socket: PathBuf, shared: Arc<Shared>) {
    let Ok(server) = UnixStream::connect(socket).await else { return };
    let mut cut = shared.weather.subscribe();
    let (mut requests, mut answers) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let swallows = AtomicBool::new(false);
    let forth = async {
        let mut bytes = vec![0; 256 * 1024];
        loop {
            let length = requests.read(&mut bytes).await?;
            shared.clear(false).await;
            match shared.trapped(&bytes[..length]) {
                Some(Moment::Before) => shared.cut(),
                Some(Moment::After) => swallows.store(true, Ordering::SeqCst),
                None if length == 0 => return std::io::Result::Ok(()),
                None => {}
            }
            if *shared.weather.borrow() != Weather::Cut {
                to_server.write_all(&bytes[..length]).await?;
            }
        }
    };
    let back = async {
        let mut bytes = vec![0; 256 * 1024];
        loop {
            let length = from_server.read(&mut bytes).await?;
            if length == 0 {
                return std::io::Result::Ok(());
            }
            shared.clear(true).await;
            if swallows.load(Ordering::SeqCst) {
                shared.cut();
                return Ok(());
            }
            answers.write_all(&bytes[..length]).await?;
        }
    };
    // Whichever ends first ends all.
    tokio::select! {
        biased;
        _cut = cut.wait_for(|weather| *weather == Weather::Cut) => {}
        _ended = forth => {}
        _ended = back => {}
    }
}
