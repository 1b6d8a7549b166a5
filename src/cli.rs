//! The command line.

mod ledger;

use std::io::Write as _;
use std::net::{AddrParseError, IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;
use std::str::FromStr;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use http::StatusCode;
use tokio::net::TcpStream;
use tokio::signal::unix::{SignalKind, signal};
use uuid::Uuid;

use crate::app::{self, App, StartError};
use crate::auth::KeyDigest;
use crate::clock::Clock;
use crate::config::{Config, LoadError};
use crate::sandbox::{self, Sandbox};
use crate::secret::Secret;
use crate::server::{self, Server};
use crate::telemetry;
use crate::units::OneOrMany;

/// The configuration of `serve --sandbox` without a file.
const DEMO: &str = include_str!("../config/demo.toml");

/// A gateway that takes longer to say that it is ready is not.
const HEALTH_TIMEOUT: Duration = Duration::from_secs(3);

/// What sysexits.h calls a configuration error.
const EX_CONFIG: u8 = 78;

/// Where the sandbox is, unless told otherwise.
const SANDBOX: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8082);

/// A reverse proxy in front of Telnyx's Number Reputation API that never pays twice for one answer.
#[derive(Debug, Parser)]
#[command(version, about, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the gateway until SIGTERM or SIGINT.
    Serve(Serve),
    /// Read a configuration, say what is wrong with it, and exit with 0 or 78.
    CheckConfig {
        #[command(flatten)]
        source: Source,
        /// Print the configuration that would be in force, secrets left out.
        #[arg(long)]
        print: bool,
    },
    /// Run the Telnyx stand-in alone.
    Sandbox {
        /// Where to listen.
        #[arg(long, value_name = "ADDR", default_value_t = SANDBOX)]
        listen: SocketAddr,
        /// How many numbers that were never checked each enterprise has.
        #[arg(long, value_name = "N", default_value_t = 1000)]
        numbers: u32,
        /// What scores and ids depend on.
        #[arg(long, value_name = "SEED", default_value_t = 1)]
        seed: u64,
    },
    /// Make a gateway key.
    Key {
        #[command(subcommand)]
        command: KeyCommand,
    },
    /// Read the ledger: check it, export it, compare it with a bill.
    Ledger {
        #[command(subcommand)]
        command: ledger::LedgerCommand,
    },
    /// Ask a running gateway's admin listener whether it is ready; exit with 0 if it is.
    Health {
        #[command(flatten)]
        source: Source,
        /// The admin listener, if not the configuration's.
        #[arg(long, value_name = "ADDR")]
        admin_listen: Option<SocketAddr>,
    },
}

#[derive(Debug, Subcommand)]
enum KeyCommand {
    /// Print a new key, once, and its SHA-256 for the configuration.
    New,
}

#[derive(Debug, Args)]
struct Source {
    /// The configuration file; without one, defaults and the environment.
    #[arg(long, value_name = "FILE", env = "REPUTATION_GATEWAY_CONFIG")]
    config: Option<PathBuf>,
}

#[derive(Debug, Args)]
struct Serve {
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

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
enum Failed {
    #[error("{0}")]
    Load(#[from] LoadError),
    #[error("{0}")]
    Start(#[from] StartError),
    #[error("{0}")]
    Log(#[from] telemetry::NoLog),
    #[error("not ready: {0}")]
    NotReady(String),
    #[error("{0}")]
    Io(#[from] std::io::Error),
}

impl Failed {
    fn exit_code(&self) -> ExitCode {
        match self {
            Self::Load(_) | Self::Log(_) | Self::Start(StartError::Unsafe(_) | StartError::Token(_)) => ExitCode::from(EX_CONFIG),
            Self::Start(StartError::Build(_) | StartError::Bind { .. }) | Self::NotReady(_) | Self::Io(_) => ExitCode::FAILURE,
        }
    }
}

/// Runs the command that the arguments name.
pub fn run() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Serve(serve) => serve.run(),
        Command::CheckConfig { source, print } => check_config(&source, print),
        Command::Sandbox { listen, numbers, seed } => run_sandbox(listen, sandbox::Config { numbers, seed, ..sandbox::Config::default() }),
        Command::Key { command: KeyCommand::New } => new_key(),
        Command::Ledger { command } => return command.run(),
        Command::Health { source, admin_listen } => health(&source, admin_listen),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failed) => {
            eprintln!("reputation-gateway: {failed}");
            failed.exit_code()
        }
    }
}

impl Source {
    fn load(&self) -> Result<Config, LoadError> {
        Config::load(self.config.as_deref(), environment())
    }
}

impl Serve {
    fn run(self) -> Result<(), Failed> {
        let mut config = match (&self.source.config, self.sandbox) {
            (None, Some(_)) => Config::parse(DEMO, "demo.toml", environment()).map_err(LoadError::Wrong)?,
            _ => self.source.load()?,
        };
        if let Some(listen) = self.listen {
            config.server.listen = OneOrMany::One(listen);
        }
        config.admin.listen = self.admin_listen.unwrap_or(config.admin.listen);
        let _log = telemetry::init(&config.telemetry)?;
        runtime(config.server.workers)?.block_on(serve(config, self.sandbox))
    }
}

async fn serve(mut config: Config, sandbox: Option<Standin>) -> Result<(), Failed> {
    let clock = Clock::system();
    config.warnings().iter().for_each(|warning| tracing::warn!("{warning}"));
    let sandbox = match sandbox {
        None => None,
        Some(standin) => {
            let server = bind_sandbox(standin).await?;
            config.upstream.base_url = format!("http://{}/v2", server.address()).parse().expect("a URL of an address");
            config.upstream.api_key = Secret::Plain("sandbox".to_owned());
            tracing::info!(ledger = %config.ledger.path.display(), "the sandbox charges pretend money, and this ledger records it");
            Some(server)
        }
    };
    let app = App::start(&config, &clock).await?;
    let mut standin = String::new();
    if let Some(server) = sandbox {
        standin = format!(" sandbox={}", server.address());
        tokio::spawn(server.serve(Sandbox::new(sandbox::Config::default(), clock), std::future::pending()));
    }
    // Whoever reads the ready line may send a signal at once.
    let stop = stop_signal()?;
    announce(&format!("ready listen={} admin={}{standin}", joined(&app.addresses()), app.admin_address()))?;
    app.run(stop).await;
    Ok(())
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

fn run_sandbox(listen: SocketAddr, config: sandbox::Config) -> Result<(), Failed> {
    runtime(0)?.block_on(async {
        let server = app::bind(listen, &server::Config::default()).await?;
        let stop = stop_signal()?;
        announce(&format!("ready sandbox={}", server.address()))?;
        server.serve(Sandbox::new(config, Clock::system()), stop).await;
        Ok(())
    })
}

fn check_config(source: &Source, print: bool) -> Result<(), Failed> {
    let config = source.load()?;
    let unsafe_mixes = config.unsafe_mixes();
    if !unsafe_mixes.is_empty() {
        return Err(StartError::Unsafe(unsafe_mixes).into());
    }
    config.warnings().iter().for_each(|warning| eprintln!("warning: {warning}"));
    let shown = if print { toml::to_string(&config).map_err(std::io::Error::other)? } else { "the configuration is valid\n".to_owned() };
    Ok(std::io::stdout().write_all(shown.as_bytes())?)
}

fn new_key() -> Result<(), Failed> {
    // Two random UUIDs hold 244 random bits from the system's generator.
    let key = format!("rgw_{}{}", Uuid::new_v4().simple(), Uuid::new_v4().simple());
    let digest = KeyDigest::of(key.as_bytes());
    announce(&format!("key        {key}\nkey_sha256 {digest}"))
}

fn health(source: &Source, admin_listen: Option<SocketAddr>) -> Result<(), Failed> {
    let mut address = match admin_listen {
        Some(address) => address,
        None => source.load()?.admin.listen,
    };
    if address.ip().is_unspecified() {
        address.set_ip(if address.is_ipv4() { Ipv4Addr::LOCALHOST.into() } else { Ipv6Addr::LOCALHOST.into() });
    }
    let answered = runtime(1)?.block_on(async { tokio::time::timeout(HEALTH_TIMEOUT, ready_status(address)).await });
    let status = answered.map_err(Into::into).flatten().map_err(|error| Failed::NotReady(format!("{address}: {error}")))?;
    if status == StatusCode::OK { Ok(()) } else { Err(Failed::NotReady(format!("{address} answers {status}"))) }
}

async fn ready_status(address: SocketAddr) -> Result<StatusCode, Box<dyn std::error::Error>> {
    let stream = TcpStream::connect(address).await?;
    let io = hyper_util::rt::TokioIo::new(stream);
    let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await?;
    tokio::spawn(connection);
    let request = http::Request::get("/readyz").header("host", address.to_string()).body(http_body_util::Empty::<bytes::Bytes>::new())?;
    Ok(sender.send_request(request).await?.status())
}

/// Ready on the first SIGTERM or SIGINT. SIGHUP, which would end the process in the middle of a billed call, is only noted.
fn stop_signal() -> std::io::Result<impl Future<Output = ()>> {
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let mut hangup = signal(SignalKind::hangup())?;
    Ok(async move {
        loop {
            tokio::select! {
                _ = terminate.recv() => return,
                _ = interrupt.recv() => return,
                Some(()) = hangup.recv() => tracing::warn!("SIGHUP changes nothing: a new configuration needs a restart"),
            }
        }
    })
}

/// The environment, without what is no text: no setting is.
fn environment() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
}

fn runtime(workers: usize) -> std::io::Result<tokio::runtime::Runtime> {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    if workers > 0 {
        builder.worker_threads(workers);
    }
    builder.enable_all().build()
}

fn joined(addresses: &[SocketAddr]) -> String {
    addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

/// What other programs read goes to standard output, at once.
fn announce(line: &str) -> Result<(), Failed> {
    let mut stdout = std::io::stdout().lock();
    writeln!(stdout, "{line}")?;
    Ok(stdout.flush()?)
}
