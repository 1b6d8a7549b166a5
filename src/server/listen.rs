//! A bound address and its accept loop.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::connection::{Host, serve_connection};
use super::tls::Certificates;
use super::workers::Workers;
use super::{Config, Service};

/// What the kernel says when descriptors run out passes when connections end; trying at once would spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// A bound address, ready to serve.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
    connections: Arc<Semaphore>,
    config: Config,
    certificates: Option<Arc<Certificates>>,
    workers: Option<Arc<Workers>>,
}

impl Server {
    /// Binds `address`, where no TLS is spoken. From here on the kernel takes connections, which wait until [`Server::serve`] runs.
    pub async fn bind(address: SocketAddr, config: &Config) -> io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        let connections = Arc::new(Semaphore::new(config.max_connections));
        Ok(Self { listener, address, connections, config: config.clone(), certificates: None, workers: None })
    }

    /// The same, where TLS is spoken if there are certificates.
    #[must_use]
    pub fn with_certificates(self, certificates: Option<Arc<Certificates>>) -> Self {
        Self { certificates, ..self }
    }

    /// The same, where connections are served by these threads rather than by the runtime that accepts them.
    #[must_use]
    pub fn on(self, workers: Arc<Workers>) -> Self {
        Self { workers: Some(workers), ..self }
    }

    /// The address that was bound, with the port the kernel chose where 0 was asked for.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `stop` is ready, then lets requests under way finish for as long as the drain time allows, and cuts the rest.
    pub async fn serve<S: Service>(self, service: S, stop: impl Future<Output = ()>) {
        let host = Host {
            config: Arc::new(self.config.clone()),
            certificates: self.certificates.clone(),
            stopping: CancellationToken::new(),
            streams: TaskTracker::new(),
        };
        let mut connections = JoinSet::new();
        tokio::pin!(stop);
        loop {
            tokio::select! {
                (stream, permit) = self.accept() => {
                    let (service, host) = (service.clone(), host.clone());
                    match self.workers.as_deref().map(Workers::least_busy) {
                        None => connections.spawn(async move {
                            let _permit = permit;
                            serve_connection(stream, service, host).await;
                        }),
                        Some((worker, seat)) => connections.spawn_on(async move {
                            let _held = (permit, seat);
                            if let Some(stream) = moved(stream) {
                                serve_connection(stream, service, host).await;
                            }
                        }, worker),
                    };
                }
                Some(_) = connections.join_next() => {}
                () = &mut stop => break,
            }
        }
        drop(self.listener);
        host.stopping.cancel();
        let all_ended = async { while connections.join_next().await.is_some() {} };
        if tokio::time::timeout(self.config.drain_timeout.0, all_ended).await.is_err() {
            tracing::warn!(connections = connections.len(), "requests that did not finish in the drain time are cut");
        }
        connections.shutdown().await;
        host.streams.close();
        host.streams.wait().await;
    }

    async fn accept(&self) -> (TcpStream, OwnedSemaphorePermit) {
        let permit = Arc::clone(&self.connections).acquire_owned().await.expect("the semaphore is never closed");
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

/// The connection on the runtime that this runs on.
fn moved(stream: TcpStream) -> Option<TcpStream> {
    let moved = stream.into_std().and_then(TcpStream::from_std);
    moved.inspect_err(|error| tracing::debug!(%error, "a connection ended before it began")).ok()
}
