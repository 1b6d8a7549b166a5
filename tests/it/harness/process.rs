//! The command itself, as a process of its own.

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, ExitStatus, Output, Stdio};

use tempfile::TempDir;

const BINARY: &str = env!("CARGO_BIN_EXE_reputation-gateway");

/// A process that serves, with its own directory for what it leaves.
pub(crate) struct Process {
    child: Child,
    stdout: BufReader<ChildStdout>,
    stderr: PathBuf,
    /// The line that says where it listens.
    pub(crate) ready: String,
    _directory: TempDir,
}

/// What a process left.
pub(crate) struct Ended {
    pub(crate) status: ExitStatus,
    /// What it wrote after the ready line.
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Process {
    /// Starts a command that serves, and waits until it says that it is ready.
    pub(crate) fn start(arguments: &[&str]) -> Self {
        Self::spawn(command(arguments))
    }

    /// The same with an environment.
    pub(crate) fn start_in(environment: &[(&str, &str)], arguments: &[&str]) -> Self {
        let mut command = command(arguments);
        command.envs(environment.iter().copied());
        Self::spawn(command)
    }

    /// The same, where no file that it writes may grow beyond so many bytes, which fails its writes as a full disk would.
    pub(crate) fn start_within(bytes: u64, arguments: &[&str]) -> Self {
        let limited = format!("trap '' XFSZ; ulimit -S -f {}; exec \"$0\" \"$@\"", bytes / 512);
        let mut shell = Command::new("/bin/sh");
        shell.args(["-c", &limited, BINARY]).args(arguments).env_clear().stdin(Stdio::null());
        Self::spawn(shell)
    }

    /// Lets its files grow as they like.
    pub(crate) fn lift_limit(&self) {
        let lifted = Command::new("prlimit").args(["--fsize=unlimited", "--pid", &self.child.id().to_string()]).status();
        assert!(lifted.expect("prlimit is there").success());
    }

    fn spawn(mut command: Command) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let stderr = directory.path().join("stderr");
        let file = std::fs::File::create(&stderr).expect("a file");
        let mut child = command.stdout(Stdio::piped()).stderr(file).spawn().expect("the command starts");
        let mut stdout = BufReader::new(child.stdout.take().expect("a pipe"));
        let mut ready = String::new();
        stdout.read_line(&mut ready).expect("text");
        let process = Self { child, stdout, stderr, ready, _directory: directory };
        assert!(process.ready.starts_with("ready "), "{:?}: {}", process.ready, process.log());
        process
    }

    /// One of the addresses of the ready line: `listen`, `admin` or `sandbox`.
    pub(crate) fn address(&self, name: &str) -> SocketAddr {
        let named = self.ready.split_whitespace().find_map(|word| word.strip_prefix(name)?.strip_prefix('='));
        named.unwrap_or_else(|| panic!("no {name} in {:?}", self.ready)).parse().expect("an address")
    }

    /// Its number among the processes.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// What it wrote to its log so far.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(&self.stderr).expect("text")
    }

    /// Sends SIGTERM.
    pub(crate) fn terminate(&self) {
        self.signal("-TERM");
    }

    /// Sends a signal.
    pub(crate) fn signal(&self, signal: &str) {
        let sent = Command::new("kill").args([signal, &self.child.id().to_string()]).status().expect("kill is there");
        assert!(sent.success());
    }

    /// Ends it as a crash would: nothing of it gets to run again.
    pub(crate) async fn crash(mut self) {
        self.child.kill().expect("it runs");
        self.ended().await;
    }

    /// Waits until it has ended.
    pub(crate) async fn ended(mut self) -> Ended {
        tokio::task::spawn_blocking(move || {
            let status = self.child.wait().expect("it was started here");
            let mut stdout = String::new();
            self.stdout.read_to_string(&mut stdout).expect("text");
            Ended { status, stdout, stderr: self.log() }
        })
        .await
        .expect("nothing panics")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Either fails if it has ended already.
        let _ended = self.child.kill();
        let _reaped = self.child.wait();
    }
}

/// Runs a command to its end.
pub(crate) fn run(arguments: &[&str]) -> Output {
    command(arguments).output().expect("the command starts")
}

/// Runs a command to its end: its exit code, and what it wrote.
pub(crate) fn said(arguments: &[&str]) -> (Option<i32>, String) {
    let output = run(arguments);
    let text = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8(text).expect("text"))
}

/// A path as an argument.
pub(crate) fn text(path: &Path) -> &str {
    path.to_str().expect("a temporary directory's path is text")
}

fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(BINARY);
    command.args(arguments).env_clear().stdin(Stdio::null());
    command
}
