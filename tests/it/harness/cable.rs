//! A cable to a Redis that can be cut, or held so that nothing passes, and mended.

use std::path::PathBuf;
use std::sync::Arc;

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::sync::watch;

use super::redis::RedisServer;

/// How it is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Whole,
    /// Connections stand, and nothing passes.
    Held,
    /// Connections end at once.
    Cut,
}

/// A whole cable at first.
pub(crate) struct Cable {
    url: String,
    state: watch::Sender<State>,
}

impl Cable {
    /// A cable to `server`.
    pub(crate) async fn to(server: &RedisServer) -> Self {
        let socket: Arc<PathBuf> = Arc::new(server.url().trim_start_matches("unix://").into());
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let url = format!("redis://{}", listener.local_addr().expect("an address"));
        let (state, seen) = watch::channel(State::Whole);
        tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                tokio::spawn(carry(near, Arc::clone(&socket), seen.clone()));
            }
        });
        Self { url, state }
    }

    /// The near end.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// Ends every connection, and each new one.
    pub(crate) fn cut(&self) {
        self.state.send_replace(State::Cut);
    }

    /// Lets nothing through; nobody is told.
    pub(crate) fn hold(&self) {
        self.state.send_replace(State::Held);
    }

    /// Lets everything through again.
    pub(crate) fn mend(&self) {
        self.state.send_replace(State::Whole);
    }
}

async fn carry(mut near: TcpStream, socket: Arc<PathBuf>, mut state: watch::Receiver<State>) {
    let Ok(mut far) = UnixStream::connect(&*socket).await else { return };
    loop {
        let now = *state.borrow_and_update();
        let carried = async {
            match now {
                State::Whole => copy_bidirectional(&mut near, &mut far).await.map(drop),
                State::Held => std::future::pending().await,
                State::Cut => Ok(()),
            }
        };
        tokio::select! {
            _ended = carried => return,
            changed = state.changed() => if changed.is_err() { return },
        }
    }
}

#[tokio::test]
async fn a_cable_carries_until_it_is_held_or_cut_and_again_when_it_is_mended() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = RedisServer::start(folder.path(), &["--appendonly", "no"]);
    let cable = Cable::to(&server).await;
    let client = redis::Client::open(cable.url()).expect("a URL");
    let mut connection = client.get_multiplexed_async_connection().await.expect("it carries");
    let echo = |mut connection: redis::aio::MultiplexedConnection| async move {
        redis::cmd("ECHO").arg("there").query_async::<String>(&mut connection).await
    };
    assert_eq!(echo(connection.clone()).await.expect("an answer"), "there");
    cable.hold();
    let held = tokio::spawn(echo(connection.clone()));
    cable.mend();
    assert_eq!(held.await.expect("no panic").expect("late, but there"), "there");
    cable.cut();
    assert!(echo(connection.clone()).await.is_err());
    assert!(client.get_multiplexed_async_connection().await.is_err());
    cable.mend();
    connection = client.get_multiplexed_async_connection().await.expect("it carries again");
    assert_eq!(echo(connection).await.expect("an answer"), "there");
}
