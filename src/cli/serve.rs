//! The commands that serve until a signal: the gateway, and the stand-in alone.

use std::net::{AddrParseError, SocketAddr};
use std::str::FromStr;
use std::sync::Arc;
use std::thread::available_parallelism;

use clap::Args;
use sd_notify::NotifyState;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::{Failed, SANDBOX, Source, announce, environment, runtime};
use crate::app::{self, App, Reload, StartError};
use crate::clock::Clock;
use crate::config::{Config, LoadError};
use crate::sandbox::{self, Sandbox};
use crate::secret::Secret;
use crate::server::{self, Server, Workers};
use crate::telemetry;
use crate::units::OneOrMany;

/// Threads for all but callers' connections: accepting them, operators' requests, and what goes on in the background.
const ASIDE: usize = 2;

/// The configuration of `serve --sandbox` without a file.
const DEMO: &str = include_str!("../../config/demo.toml");

#[derive(Debug, Args)]
pub(super) struct Serve {
    #[command(flatten)]
    source: Source,
    /// Put a Telnyx stand-in behind the gateway, on loopback. Without a configuration file, the demo's is used.
    #[arg(long, value_name = "ADDR", num_args = 0..=1, require_equals = true, default_missing_value = "usual")]
    sandbox: Option<Standin>,
    /// Where callers connect, instead of the configuration's addresses.
    #[arg(long, value_name = "ADDR")]
    listen: Option<SocketAddr>,
    /// Where operators connect, instead of the configuration's address.
    #[arg(long, value_name = "ADDR")]
    admin_listen: Option<SocketAddr>,
}

/// Where the stand-in listens.
#[derive(Clone, Copy, Debug)]
enum Standin {
    /// At the usual address, or any that is free.
    Usual,
    /// At this one.
    At(SocketAddr),
}

impl FromStr for Standin {
    type Err = AddrParseError;

    fn from_str(text: &str) -> Result<Self, AddrParseError> {
        if text == "usual" { Ok(Self::Usual) } else { text.parse().map(Self::At) }
    }
}

impl Serve {
    pub(super) fn run(self) -> Result<(), Failed> {
        let config = self.load()?;
        let _log = telemetry::init(&config.telemetry)?;
        runtime(ASIDE)?.block_on(self.serve(config))
    }

    /// The configuration, with what the command line says over it.
    fn load(&self) -> Result<Config, LoadError> {
        let mut config = match (&self.source.config, self.sandbox) {
            (None, Some(_)) => Config::parse(DEMO, "demo.toml", environment()).map_err(LoadError::Wrong)?,
            _ => self.source.load()?,
        };
        if let Some(listen) = self.listen {
            config.server.listen = OneOrMany::One(listen);
        }
        config.admin.listen = self.admin_listen.unwrap_or(config.admin.listen);
        Ok(config)
    }

    async fn serve(self, mut config: Config) -> Result<(), Failed> {
        let (clock, sandbox) = (Clock::system(), self.sandbox);
        config.warnings().iter().for_each(|warning| tracing::warn!("{warning}"));
        let sandbox = match sandbox {
            None => None,
            Some(standin) => {
                let server = bind_sandbox(standin).await?;
                ask_sandbox(&mut config, server.address());
                tracing::info!(ledger = %config.ledger.path.display(), "the sandbox charges pretend money, and this ledger records it");
                Some(server)
            }
        };
        let (file, standin_at) = (self.source.config.clone(), sandbox.as_ref().map(Server::address));
        let load = move || {
            let mut config = self.load()?;
            if let Some(address) = standin_at {
                ask_sandbox(&mut config, address);
            }
            Ok(config)
        };
        let source = app::Source { file, load: Arc::new(load) };
        let app = App::start(&config, &clock).await?.on(Workers::start(config.server.workers)?).reading(source);
        let mut standin = String::new();
        if let Some(server) = sandbox {
            standin = format!(" sandbox={}", server.address());
            tokio::spawn(server.serve(Sandbox::new(sandbox::Config::default(), clock), std::future::pending()));
        }
        // Whoever reads the ready line may send a signal at once.
        let stop = stop_signal()?;
        if let Some(reload) = app.reload() {
            tokio::spawn(reload_on_signal(signal(SignalKind::hangup())?, reload));
        }
        announce(&format!("ready listen={} admin={}{standin}", joined(&app.addresses()), app.admin_address()))?;
        tell_supervisor(&[NotifyState::Ready]);
        app.run(async {
            stop.await;
            tell_supervisor(&[NotifyState::Stopping]);
        })
        .await;
        Ok(())
    }
}

/// Has what the gateway sends go to the stand-in.
fn ask_sandbox(config: &mut Config, address: SocketAddr) {
    config.upstream.base_url = format!("http://{address}/v2").parse().expect("a URL of an address");
    config.upstream.api_key = Secret::Plain("sandbox".to_owned());
}

/// Reads the configuration again at each SIGHUP, and tells systemd when that has begun and ended, as `Type=notify` wants it.
async fn reload_on_signal(mut hangup: Signal, reload: Reload) {
    while hangup.recv().await.is_some() {
        match NotifyState::monotonic_usec_now() {
            Ok(now) => tell_supervisor(&[NotifyState::Reloading, now]),
            Err(error) => tracing::warn!(%error, "the supervisor is not told of a reload"),
        }
        let status = match reload.now().await {
            Ok(()) => "the configuration was read again and is in force".to_owned(),
            Err(why) => format!("an older configuration is in force: {}", why.replace('\n', "; ")),
        };
        tell_supervisor(&[NotifyState::Ready, NotifyState::Status(&status)]);
    }
}

/// Tells systemd, where it is that started the process (`Type=notify`). Nobody else sets `NOTIFY_SOCKET`.
fn tell_supervisor(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::warn!(%error, "the supervisor that NOTIFY_SOCKET names cannot be told");
    }
}

/// An address that was asked for must be had; the usual one gives way to any that is free.
async fn bind_sandbox(standin: Standin) -> Result<Server, StartError> {
    let limits = server::Config::default();
    match standin {
        Standin::At(address) => app::bind(address, &limits).await,
        Standin::Usual => match app::bind(SANDBOX, &limits).await {
            Err(_) => app::bind(SocketAddr::new(SANDBOX.ip(), 0), &limits).await,
            bound => bound,
        },
    }
}

pub(super) fn run_sandbox(listen: SocketAddr, config: sandbox::Config) -> Result<(), Failed> {
    runtime(available_parallelism()?.get())?.block_on(async {
        let server = app::bind(listen, &server::Config::default()).await?;
        let stop = stop_signal()?;
        announce(&format!("ready sandbox={}", server.address()))?;
        server.serve(Sandbox::new(config, Clock::system()), stop).await;
        Ok(())
    })
}

/// Ready on the first SIGTERM or SIGINT.
fn stop_signal() -> std::io::Result<impl Future<Output = ()>> {
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}

fn joined(addresses: &[SocketAddr]) -> String {
    addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}
