//! The gateway as a process, which ends with its guard.

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use crate::disk;

/// A gateway that runs.
pub(crate) struct Gateway {
    child: Child,
    ready: String,
    _directory: TempDir,
}

impl Gateway {
    /// Starts one with these settings, in a directory of its own on a disk.
    pub(crate) fn start(arguments: &[&str], settings: &str) -> Self {
        let directory = disk::directory();
        let config = directory.path().join("gateway.toml");
        std::fs::write(&config, settings).expect("written");
        let mut command = Command::new(env!("CARGO_BIN_EXE_reputation-gateway"));
        command.arg("serve").args(arguments).arg("--config").arg(&config).current_dir(directory.path());
        let mut child = command.env_clear().stdin(Stdio::null()).stdout(Stdio::piped()).spawn().expect("the gateway starts");
        let mut ready = String::new();
        BufReader::new(child.stdout.take().expect("a pipe")).read_line(&mut ready).expect("text");
        Self { child, ready, _directory: directory }
    }

    /// Where it listens for what has this name in its ready line.
    pub(crate) fn address(&self, name: &str) -> SocketAddr {
        let named = self.ready.split_whitespace().find_map(|word| word.strip_prefix(name)?.strip_prefix('='));
        named.unwrap_or_else(|| panic!("no {name} in {:?}", self.ready)).parse().expect("an address")
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        // Either fails if it has ended already.
        let _ended = self.child.kill();
        let _reaped = self.child.wait();
    }
}
