//! A Redis of a test's own: a process that listens on a socket in a folder, and ends with the test.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// A running `redis-server`, or another server that takes its arguments.
pub(crate) struct RedisServer {
    child: Child,
    socket: PathBuf,
}

/// The server's program: `redis-server`, or what `REDIS_SERVER` names.
pub(crate) fn program() -> Command {
    Command::new(std::env::var_os("REDIS_SERVER").unwrap_or_else(|| "redis-server".into()))
}

impl RedisServer {
    /// Starts one that keeps what it is told in `folder`, and waits until it is ready. `settings` are as on its command line.
    pub(crate) fn start(folder: &Path, settings: &[&str]) -> Self {
        let socket = folder.join("redis.sock");
        let fixed = ["--port", "0", "--save", "", "--daemonize", "no", "--unixsocket"];
        let mut command = program();
        command.args(fixed).arg(&socket).arg("--dir").arg(folder).args(settings);
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().expect("redis-server is installed: tests/run does it");
        let mut lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
        let is_ready = lines.by_ref().map_while(Result::ok).any(|line| line.to_lowercase().contains("ready to accept connections"));
        assert!(is_ready, "it does not start: {command:?}");
        std::thread::spawn(move || lines.for_each(drop));
        Self { child, socket }
    }

    /// Where it listens.
    pub(crate) fn url(&self) -> String {
        format!("unix://{}", self.socket.display())
    }

    /// The socket that it listens on.
    pub(crate) fn socket(&self) -> &Path {
        &self.socket
    }

    /// The same for one of its users, who has no password.
    pub(crate) fn url_of(&self, user: &str) -> String {
        format!("unix://{}?user={user}&pass=none", self.socket.display())
    }

    /// Gives it a command, and returns what it answers.
    pub(crate) fn tell<T: redis::FromRedisValue>(&self, command: &[&str]) -> T {
        let mut connection = redis::Client::open(self.url()).and_then(|client| client.get_connection()).expect("it listens");
        redis::cmd(command[0]).arg(&command[1..]).query(&mut connection).unwrap_or_else(|error| panic!("{command:?}: {error}"))
    }

    /// Sends it a signal.
    pub(crate) fn signal(&self, signal: &str) {
        let sent = Command::new("kill").args([signal, &self.child.id().to_string()]).status().expect("kill is there");
        assert!(sent.success());
    }

    /// Ends it as a crash would.
    pub(crate) fn kill(&mut self) {
        self.child.kill().expect("it runs");
        self.child.wait().expect("it was started here");
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        // Either fails if it has ended already.
        let _ended = self.child.kill();
        let _reaped = self.child.wait();
    }
}
