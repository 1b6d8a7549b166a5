//! Start-up and stop: a configuration becomes an [`App`], which runs until it is told to stop and then drains.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::task::spawn_blocking;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::admin::Admin;
use crate::clock::Clock;
use crate::config::{Config, Unsafe};
use crate::gateway::{BuildError, Gateway};
use crate::secret::NoSecret;
use crate::server::{self, Certificates, Server, TlsError, Workers};

/// A gateway with its listeners bound: callers may connect already, and are answered once it runs.
pub struct App {
    gateway: Gateway,
    admin: Admin,
    listeners: Vec<Server>,
    admin_listener: Server,
    workers: Option<Arc<Workers>>,
    draining: CancellationToken,
}

/// Why a gateway does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Settings that are unsafe together; all of them.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
    Unsafe(Vec<Unsafe>),
    /// The admin token is not where the configuration says.
    #[error("admin.token: {0}")]
    Token(#[from] NoSecret),
    /// An engine cannot be made.
    #[error("{0}")]
    Build(#[from] BuildError),
    /// The certificates cannot be used.
    #[error("{0}")]
    Tls(#[from] TlsError),
    /// An address cannot be bound.
    #[error("{address} cannot be bound: {error}")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// What the system says.
        error: std::io::Error,
    },
}

impl App {
    /// Checks the configuration, makes every engine, and binds every address.
    pub async fn start(config: &Config, clock: &Clock) -> Result<Self, StartError> {
        let unsafe_mixes = config.unsafe_mixes();
        if !unsafe_mixes.is_empty() {
            return Err(StartError::Unsafe(unsafe_mixes));
        }
        let token = config.admin.token.as_ref().map(crate::secret::Secret::read).transpose()?;
        let certificates = config.server.tls.as_ref().map(Certificates::load).transpose()?.map(Arc::new);
        let mut listeners = Vec::new();
        for address in config.server.listen.as_slice() {
            listeners.push(bind(*address, &config.server).await?.with_certificates(certificates.clone()));
        }
        let admin_listener = bind(config.admin.listen, &config.server).await?;
        let gateway = Gateway::build(config, clock)?;
        let draining = CancellationToken::new();
        let admin = Admin::new(gateway.clone(), token.as_ref(), draining.clone()).with_certificates(certificates);
        Ok(Self { gateway, admin, listeners, admin_listener, workers: None, draining })
    }

    /// The same, where callers' connections are served by these threads rather than by the runtime that it runs on.
    #[must_use]
    pub fn on(self, workers: Workers) -> Self {
        let workers = Arc::new(workers);
        let listeners = self.listeners.into_iter().map(|listener| listener.on(Arc::clone(&workers))).collect();
        Self { listeners, workers: Some(workers), ..self }
    }

    /// Where callers connect.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.listeners.iter().map(Server::address).collect()
    }

    /// Where operators connect.
    pub fn admin_address(&self) -> SocketAddr {
        self.admin_listener.address()
    }

    /// Serves until `stop` is ready. Then requests under way finish, every billable call is settled, and the ledger is closed.
    pub async fn run(self, stop: impl Future<Output = ()>) {
        let stopped = CancellationToken::new();
        let (history, stop_history) = (self.admin.clone(), self.draining.clone().cancelled_owned());
        let history = tokio::spawn(async move { history.keep_history(stop_history).await });
        let admin = tokio::spawn(self.admin_listener.serve(self.admin, stopped.clone().cancelled_owned()));
        let serving = TaskTracker::new();
        for listener in self.listeners {
            serving.spawn(listener.serve(self.gateway.clone(), self.draining.clone().cancelled_owned()));
        }
        serving.close();
        let stopping = || (self.gateway.clone(), self.draining.clone().cancelled_owned());
        let (gateway, stop_resolving) = stopping();
        let resolver = tokio::spawn(async move { gateway.resolve(stop_resolving).await });
        let (gateway, stop_syncing) = stopping();
        let sync = tokio::spawn(async move { gateway.sync(stop_syncing).await });
        let (gateway, stop_following) = stopping();
        let ledger_follower = tokio::spawn(async move { gateway.follow_ledger(stop_following).await });
        let (gateway, stop_keeping) = stopping();
        let snapshots = tokio::spawn(async move { gateway.keep_snapshots(stop_keeping).await });
        let (gateway, stop_following) = stopping();
        let following = tokio::spawn(async move { gateway.follow_others(stop_following).await });
        // Until the ledger is closed, which may tell events to its end.
        let (gateway, closed) = (self.gateway.clone(), CancellationToken::new());
        let stop_posting = closed.clone().cancelled_owned();
        let webhooks = tokio::spawn(async move { gateway.post_events(stop_posting).await });
        stop.await;
        tracing::info!("draining: no new connections, requests under way finish");
        self.draining.cancel();
        serving.wait().await;
        for (what, task) in [
            ("the resolver of unknown outcomes", resolver),
            ("reading the lists ahead", sync),
            ("following the shared ledger", ledger_follower),
            ("keeping snapshots", snapshots),
            ("following the other gateways", following),
            ("keeping the history of decisions", history),
        ] {
            if let Err(error) = task.await {
                tracing::error!(%error, "{what} failed");
            }
        }
        self.gateway.close().await;
        closed.cancel();
        self.gateway.write_snapshot().await;
        if let Err(error) = webhooks.await {
            tracing::error!(%error, "posting events failed");
        }
        stopped.cancel();
        if let Err(error) = admin.await {
            tracing::error!(%error, "the admin listener failed");
        }
        // Only here, since purchases go on when their callers' connections have ended. Their threads are waited for.
        if let Err(error) = spawn_blocking(move || drop(self.workers)).await {
            tracing::error!(%error, "the workers did not end");
        }
        tracing::info!("stopped");
    }
}

/// Binds one address, where no TLS is spoken.
pub async fn bind(address: SocketAddr, config: &server::Config) -> Result<Server, StartError> {
    Server::bind(address, config).await.map_err(|error| StartError::Bind { address, error })
}
