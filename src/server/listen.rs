//! A bound address and its accept loop.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;

use super::watchdog::Watchdog;
use super::{Config, Service};

/// hyper answers a head beyond its own limit with a bare 431, and leaves those below it to the service, which can explain.
const HEAD_SLACK: usize = 16;

/// Fields in one request's head, beyond which hyper answers with a bare 431.
const MAX_FIELDS: usize = 1_000;

/// What the kernel says when descriptors run out passes when connections end; trying at once would spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// A bound address, ready to serve.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
    limits: Limits,
}

#[derive(Clone, Debug)]
struct Limits {
    connections: Arc<Semaphore>,
    max_head: usize,
    head: Duration,
    idle: Duration,
    drain: Duration,
}

impl Server {
    /// Binds `address`. From here on the kernel takes connections, which wait until [`Server::serve`] runs.
    pub async fn bind(address: SocketAddr, config: &Config) -> io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        let limits = Limits {
            connections: Arc::new(Semaphore::new(config.max_connections)),
            max_head: (config.max_header_size.0 * HEAD_SLACK).max(64 * 1024),
            head: config.header_timeout.0,
            idle: config.idle_timeout.0,
            drain: config.drain_timeout.0,
        };
        Ok(Self { listener, address, limits })
    }

    /// The address that was bound, with the port the kernel chose where 0 was asked for.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `stop` is ready, then lets requests under way finish for as long as the drain time allows, and cuts the rest.
    pub async fn serve<S: Service>(self, service: S, stop: impl Future<Output = ()>) {
        let graceful = GracefulShutdown::new();
        let mut connections = JoinSet::new();
        tokio::pin!(stop);
        loop {
            tokio::select! {
                (stream, permit) = self.accept() => {
                    connections.spawn(serve_connection(stream, service.clone(), self.limits.clone(), graceful.watcher(), permit));
                }
                Some(_) = connections.join_next() => {}
                () = &mut stop => break,
            }
        }
        drop(self.listener);
        if tokio::time::timeout(self.limits.drain, graceful.shutdown()).await.is_err() {
            tracing::warn!(connections = connections.len(), "requests that did not finish in the drain time are cut");
        }
        connections.shutdown().await;
    }

    async fn accept(&self) -> (TcpStream, OwnedSemaphorePermit) {
        let permit = Arc::clone(&self.limits.connections).acquire_owned().await.expect("the semaphore is never closed");
        loop {
            match self.listener.accept().await {
                Ok((stream, _)) => return (stream, permit),
                Err(error) => {
                    tracing::warn!(%error, address = %self.address, "a connection could not be accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
}

async fn serve_connection<S: Service>(stream: TcpStream, service: S, limits: Limits, watcher: Watcher, permit: OwnedSemaphorePermit) {
    let _permit = permit;
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "a connection ended before it began");
        return;
    }
    let watchdog = Watchdog::new(limits.head, limits.idle);
    let io = TokioIo::new(watchdog.watch(stream));
    let connection = http1::Builder::new()
        .header_read_timeout(None)
        .max_buf_size(limits.max_head)
        .max_headers(MAX_FIELDS)
        .serve_connection(io, watchdog.service(service));
    tokio::select! {
        ended = watcher.watch(connection) => {
            if let Err(error) = ended {
                tracing::debug!(%error, "a connection ended early");
            }
        }
        () = watchdog.barks() => tracing::debug!("a connection stood still for too long"),
    }
}
