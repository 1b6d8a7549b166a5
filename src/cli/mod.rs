//! The command line: arguments, which command runs, and how the process ends.

mod check;
mod client;
mod config;
mod control;
mod explain;
mod ledger;
mod manual;
mod purge;
mod report;
mod requests;
mod serve;

use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use uuid::Uuid;

use self::check::CheckConfig;
use self::client::{Health, NoAnswer};
use self::control::{AcknowledgeLoss, Budgets, KillSwitch};
use self::explain::Explain;
use self::manual::{Completions, Manual};
use self::purge::Purge;
use self::requests::Requests;
use self::serve::Serve;
use crate::app::StartError;
use crate::auth::KeyDigest;
use crate::config::{Config, LoadError};
use crate::sandbox;
use crate::secret::NoSecret;
use crate::telemetry;

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
    #[command(after_help = examples(&[
        ("a try without a key or an account", "reputation-gateway serve --sandbox"),
        ("as a service", "reputation-gateway serve --config /etc/reputation-gateway/gateway.toml"),
        ("a setting from the environment", "REPUTATION_GATEWAY__CACHE__TTL=2h reputation-gateway serve --config gateway.toml"),
    ]))]
    Serve(Serve),
    /// Read a configuration, say what is wrong with it, and exit with 0 or 78.
    #[command(after_help = examples(&[
        ("before a deployment", "reputation-gateway check-config --config gateway.toml"),
        ("with every default, secrets left out", "reputation-gateway check-config --config gateway.toml --print"),
        ("for a pipeline", "reputation-gateway check-config --config gateway.toml --json"),
        ("for an editor", "reputation-gateway check-config --schema > schema.json"),
    ]))]
    CheckConfig(CheckConfig),
    /// Show the configuration that a running gateway goes by, secrets left out, and what of its file is not in force.
    #[command(after_help = examples(&[
        ("is the edit in force?", "reputation-gateway config"),
        ("what waits for a restart?", "reputation-gateway config --json | jq .data.restart_needed"),
    ]))]
    Config(config::Config),
    /// Run the Telnyx stand-in alone.
    Sandbox {
        /// Where to listen.
        #[arg(long, value_name = "ADDR", default_value_t = SANDBOX)]
        listen: SocketAddr,
        /// How many numbers that were never checked each enterprise has.
        #[arg(long, value_name = "N", default_value_t = 1000)]
        numbers: u32,
        /// Let these numbers have data from the start, and be all that there are.
        #[arg(long)]
        checked: bool,
        /// What scores and ids depend on.
        #[arg(long, value_name = "SEED", default_value_t = 1)]
        seed: u64,
    },
    /// Make a gateway key.
    #[command(after_help = examples(&[
        ("the key for the service, and its SHA-256 for [[caller]]", "reputation-gateway key new"),
        ("into a secret store", "reputation-gateway key new --json"),
    ]))]
    Key {
        #[command(subcommand)]
        command: KeyCommand,
    },
    /// Ask a running gateway's admin listener whether it is ready; exit with 0 if it is.
    #[command(after_help = examples(&[
        ("for a container's health check", "reputation-gateway health --admin-listen 127.0.0.1:8081"),
        ("and what it says", "reputation-gateway health --json"),
    ]))]
    Health(Health),
    /// Show where a running gateway's budgets stand, or give one more for a time.
    #[command(after_help = examples(&[
        ("all of them", "reputation-gateway budgets"),
        ("for a script", "reputation-gateway budgets --json"),
        ("five dollars more for two hours", "reputation-gateway budgets override all-day --add 5.00 --until 2h --reason campaign"),
    ]))]
    Budgets(Budgets),
    /// Show or turn the switch that stops all billable work of a running gateway.
    #[command(after_help = examples(&[
        ("at once", "reputation-gateway kill-switch on --reason \"runaway dialer\""),
        ("when it is mended", "reputation-gateway kill-switch off --reason mended"),
    ]))]
    KillSwitch(KillSwitch),
    /// Let billable work go on after the Redis of a shared ledger lost some of it.
    AcknowledgeLoss(AcknowledgeLoss),
    /// Tell what a request would come to, and do nothing of it; or why a past one was billed or not.
    #[command(after_help = examples(&[
        ("why would this be billed?", "reputation-gateway explain '/v2/reputation/numbers/+12025550000?fresh=true' --caller dialer"),
        ("why was this billed?", "reputation-gateway explain --request-id 01a1fd9c4edc72d9aa1e25bef3a12238"),
    ]))]
    Explain(Explain),
    /// List a running gateway's last requests, what each came to and cost.
    #[command(after_help = examples(&[
        ("what was billed?", "reputation-gateway requests --billed yes"),
        ("what was refused for want of money?", "reputation-gateway requests --decision budget_exhausted --caller dialer"),
    ]))]
    Requests(Requests),
    /// Outdate a running gateway's copies, or throw them away: of a number, an enterprise, or all.
    #[command(after_help = examples(&[
        ("what would it cost?", "reputation-gateway purge --all --hard --dry-run"),
        ("one number", "reputation-gateway purge --enterprise 6a09cdc3-8948-47f0-aa62-74ac943d6c58 --number +12025550000"),
    ]))]
    Purge(Purge),
    /// Read the ledger: check it, export it, compare it with a bill.
    Ledger {
        #[command(subcommand)]
        command: ledger::LedgerCommand,
    },
    /// Print what lets a shell complete these commands.
    #[command(after_help = examples(&[
        ("for this user's bash", "reputation-gateway completions bash > ~/.local/share/bash-completion/completions/reputation-gateway"),
        ("for zsh, in a folder of $fpath", "reputation-gateway completions zsh > ~/.zfunc/_reputation-gateway"),
    ]))]
    Completions(Completions),
    /// Print a manual page.
    #[command(after_help = examples(&[
        ("read it", "reputation-gateway man | man -l -"),
        ("a command's own", "reputation-gateway man ledger verify | man -l -"),
    ]))]
    Man(Manual),
}

#[derive(Debug, Subcommand)]
enum KeyCommand {
    /// Print a new key, once, and its SHA-256 for the configuration.
    New {
        /// Print both as JSON.
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, Args)]
struct Source {
    /// The configuration file; without one, defaults and the environment.
    #[arg(long, value_name = "FILE", env = "REPUTATION_GATEWAY_CONFIG", global = true)]
    config: Option<PathBuf>,
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
    #[error("admin.token: {0}")]
    Token(#[from] NoSecret),
    #[error("{0}")]
    NoAnswer(#[from] NoAnswer),
    #[error("{0}")]
    Io(#[from] std::io::Error),
}

impl Failed {
    fn exit_code(&self) -> ExitCode {
        match self {
            Self::Load(_)
            | Self::Log(_)
            | Self::Token(_)
            | Self::Start(StartError::Unsafe(_) | StartError::Token(_) | StartError::Tls(_)) => ExitCode::from(EX_CONFIG),
            Self::Start(StartError::Build(_) | StartError::Bind { .. }) | Self::NotReady(_) | Self::NoAnswer(_) | Self::Io(_) => {
                ExitCode::FAILURE
            }
        }
    }
}

/// Runs the command that the arguments name.
pub fn run() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Serve(serve) => serve.run(),
        Command::CheckConfig(check) => check.run(),
        Command::Sandbox { listen, numbers, checked, seed } => {
            serve::run_sandbox(listen, sandbox::Config { numbers, checked, seed, ..sandbox::Config::default() })
        }
        Command::Key { command: KeyCommand::New { json } } => new_key(json),
        Command::Health(health) => health.run(),
        Command::Budgets(budgets) => budgets.run().and_then(|text| announce(&text)),
        Command::Ledger { command } => return command.run(),
        Command::Config(config) => config.run().and_then(|text| announce(&text)),
        Command::KillSwitch(switch) => switch.run().and_then(|text| announce(&text)),
        Command::AcknowledgeLoss(acknowledge) => acknowledge.run().and_then(|text| announce(&text)),
        Command::Explain(explain) => explain.run().and_then(|text| announce(&text)),
        Command::Requests(requests) => requests.run().and_then(|text| announce(&text)),
        Command::Purge(purge) => purge.run().and_then(|text| announce(&text)),
        Command::Completions(completions) => write_out(&completions.run()),
        Command::Man(manual) => manual.run().and_then(|page| write_out(&page)),
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

fn new_key(json: bool) -> Result<(), Failed> {
    // Two random UUIDs hold 244 random bits from the system's generator.
    let key = format!("rgw_{}{}", Uuid::new_v4().simple(), Uuid::new_v4().simple());
    let digest = KeyDigest::of(key.as_bytes());
    let text = || format!("key        {key}\nkey_sha256 {digest}");
    announce(&if json { serde_json::json!({ "key": key, "key_sha256": digest }).to_string() } else { text() })
}

/// The environment, without what is no text: no setting is.
fn environment() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
}

fn runtime(threads: usize) -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread().worker_threads(threads).enable_all().build()
}

/// Examples below a command's help: what each is for, and its line.
fn examples(lines: &[(&str, &str)]) -> String {
    let shown = lines.iter().map(|(what, line)| format!("  {line}\n      {what}"));
    format!("Examples:\n{}", shown.collect::<Vec<_>>().join("\n"))
}

fn write_out(bytes: &[u8]) -> Result<(), Failed> {
    Ok(std::io::stdout().write_all(bytes)?)
}

/// What other programs read goes to standard output, at once; in colours only to a terminal.
fn announce(line: &str) -> Result<(), Failed> {
    let mut stdout = anstream::stdout().lock();
    writeln!(stdout, "{line}")?;
    Ok(stdout.flush()?)
}
