//! Start-up and stop: a configuration becomes an [`App`], which runs until it is told to stop and then drains.

mod reload;

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::task::{JoinHandle, spawn_blocking};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use self::reload::{Reload, Source};
use crate::admin::Admin;
use crate::clock::Clock;
use crate::config::{Config, Unsafe};
use crate::gateway::{BuildError, Live};
use crate::secret::NoSecret;
use crate::server::{self, Certificates, Server, TlsError, Workers};

/// A gateway with its listeners bound: callers may connect already, and are answered once it runs.
pub struct App {
    live: Live,
    admin: Admin,
    reload: Option<Reload>,
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
        let live = Live::build(config, clock)?;
        let draining = CancellationToken::new();
        let admin = Admin::new(live.clone(), token.as_ref(), draining.clone()).with_certificates(certificates);
        Ok(Self { live, admin, reload: None, listeners, admin_listener, workers: None, draining })
    }

    /// The same, where callers' connections are served by these threads rather than by the runtime that it runs on.
    #[must_use]
    pub fn on(self, workers: Workers) -> Self {
        let workers = Arc::new(workers);
        let listeners = self.listeners.into_iter().map(|listener| listener.on(Arc::clone(&workers))).collect();
        Self { listeners, workers: Some(workers), ..self }
    }

    /// The same, reading its configuration again when it changes at its source.
    #[must_use]
    pub fn reading(self, source: Source) -> Self {
        Self { reload: Some(Reload::new(source, self.live.clone(), self.admin.clone())), ..self }
    }

    /// What reads the configuration again, if there is somewhere to read it from.
    pub fn reload(&self) -> Option<Reload> {
        self.reload.clone()
    }

    /// The gateway that it runs.
    pub fn live(&self) -> Live {
        self.live.clone()
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
    pub async fn run(mut self, stop: impl Future<Output = ()>) {
        let background = self.background();
        // Who may be told of something until the ledger is closed, and until nobody does anything any more.
        let (closed, nothing_left, stopped) = (CancellationToken::new(), CancellationToken::new(), CancellationToken::new());
        let (gateway, stop_posting) = (self.live.gateway(), closed.clone().cancelled_owned());
        let webhooks = tokio::spawn(async move { gateway.post_events(stop_posting).await });
        let (gateway, stop_exporting) = (self.live.gateway(), nothing_left.clone().cancelled_owned());
        let traces = tokio::spawn(async move { gateway.export_traces(stop_exporting).await });
        let admin = tokio::spawn(self.admin_listener.serve(self.admin, stopped.clone().cancelled_owned()));
        let serving = TaskTracker::new();
        for listener in self.listeners {
            serving.spawn(listener.serve(self.live.clone(), self.draining.clone().cancelled_owned()));
        }
        serving.close();
        stop.await;
        tracing::info!("draining: no new connections, requests under way finish");
        self.draining.cancel();
        serving.wait().await;
        for (what, task) in background {
            ended(what, task).await;
        }
        let gateway = self.live.gateway();
        gateway.close().await;
        closed.cancel();
        gateway.write_snapshot().await;
        nothing_left.cancel();
        ended("posting events", webhooks).await;
        ended("exporting traces", traces).await;
        stopped.cancel();
        ended("the admin listener", admin).await;
        // Only here, since purchases go on when their callers' connections have ended. Their threads are waited for.
        ended("the end of the workers", spawn_blocking(move || drop(self.workers))).await;
        tracing::info!("stopped");
    }

    /// What goes on beside the requests until the gateway drains.
    fn background(&mut self) -> Vec<(&'static str, JoinHandle<()>)> {
        let stop = || self.draining.clone().cancelled_owned();
        let (admin, stop_history) = (self.admin.clone(), stop());
        let (live, stop_resolving) = (self.live.clone(), stop());
        let (live_of_lists, stop_syncing) = (self.live.clone(), stop());
        // These ask nothing of a configuration that can change while they run.
        let (of_ledger, stop_following) = (self.live.gateway(), stop());
        let (of_snapshots, stop_keeping) = (self.live.gateway(), stop());
        let (of_others, stop_listening) = (self.live.gateway(), stop());
        let mut tasks = vec![
            ("the resolver of unknown outcomes", tokio::spawn(async move { live.resolve(stop_resolving).await })),
            ("reading the lists ahead", tokio::spawn(async move { live_of_lists.sync(stop_syncing).await })),
            ("following the shared ledger", tokio::spawn(async move { of_ledger.follow_ledger(stop_following).await })),
            ("keeping snapshots", tokio::spawn(async move { of_snapshots.keep_snapshots(stop_keeping).await })),
            ("following the other gateways", tokio::spawn(async move { of_others.follow_others(stop_listening).await })),
            ("keeping the history of decisions", tokio::spawn(async move { admin.keep_history(stop_history).await })),
        ];
        let stop_watching = stop();
        if let Some(reload) = self.reload.take() {
            tasks.push(("watching the configuration", tokio::spawn(async move { reload.watch(stop_watching).await })));
        }
        tasks
    }
}

/// Waits for a task's end, which is told if it was none of its own.
async fn ended(what: &str, task: JoinHandle<()>) {
    if let Err(error) = task.await {
        tracing::error!(%error, "{what} failed");
    }
}

/// Binds one address, where no TLS is spoken.
pub async fn bind(address: SocketAddr, config: &server::Config) -> Result<Server, StartError> {
    Server::bind(address, config).await.map_err(|error| StartError::Bind { address, error })
}
