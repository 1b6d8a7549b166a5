//! The same through the command: signals, the supervisor, the log's level, and what an operator is shown.

use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};

use serde_json::Value;
use tempfile::TempDir;

use crate::harness::process::{Process, said, text};
use crate::harness::{Ask, PATIENCE, STORED};

/// A gateway with a stand-in, a file that can be edited, and a supervisor that is told of it.
struct Service {
    process: Process,
    supervisor: UnixDatagram,
    file: PathBuf,
    directory: TempDir,
}

impl Service {
    fn start(tables: &str) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let (path, file) = (directory.path().join("notify"), directory.path().join("gateway.toml"));
        let supervisor = UnixDatagram::bind(&path).expect("a socket");
        supervisor.set_read_timeout(Some(PATIENCE)).expect("a time");
        write(&file, directory.path(), tables);
        let process = Process::start_in(&[("NOTIFY_SOCKET", text(&path))], &["serve", "--sandbox=127.0.0.1:0", "--config", text(&file)]);
        let service = Self { process, supervisor, file, directory };
        assert_eq!(service.told(), "READY=1\n");
        service
    }

    fn told(&self) -> String {
        let mut message = [0; 2048];
        let length = self.supervisor.recv(&mut message).expect("a message");
        String::from_utf8_lossy(&message[..length]).into_owned()
    }

    /// Edits the file and sends SIGHUP; what the supervisor is told when it is done.
    fn reload(&self, tables: &str) -> String {
        write(&self.file, self.directory.path(), tables);
        self.process.signal("-HUP");
        let begun = self.told();
        let moment = begun.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").and_then(|moment| moment.trim_end().parse::<u64>().ok());
        assert!(moment.is_some(), "{begun}");
        self.told()
    }

    /// What `config` says of it.
    fn config(&self, words: &[&str]) -> String {
        let admin = self.process.address("admin").to_string();
        let (code, said) = said(&[&["config", "--admin-listen", &admin], words].concat());
        assert_eq!(code, Some(0), "{said}");
        said
    }

    async fn read(&self, request_id: &str) {
        let path = format!("/v2/reputation/numbers/{STORED}");
        let answer = Ask::new(self.process.address("listen"), &path).header("x-request-id", request_id).send().await;
        assert_eq!(answer.status, 200);
    }
}

fn write(file: &Path, directory: &Path, tables: &str) {
    let fixed = format!(
        "[server]\nlisten = \"127.0.0.1:0\"\n[admin]\nlisten = \"127.0.0.1:0\"\n[auth]\nmode = \"open\"\n[ledger]\npath = \"{}/ledger.sqlite\"\n",
        text(directory)
    );
    std::fs::write(file, format!("{fixed}{tables}")).expect("writable");
}

const IN_FORCE: &str = "READY=1\nSTATUS=the configuration was read again and is in force\n";

#[tokio::test]
async fn sighup_reads_the_file_again_and_the_supervisor_and_the_operator_are_told() {
    let service = Service::start("[cache]\nttl = \"1h\"\n");
    assert_eq!(service.reload("[cache]\nttl = \"2h\"\nmax_size = \"1MiB\"\n"), IN_FORCE);
    let data: Value = serde_json::from_str::<Value>(&service.config(&["--json"])).expect("JSON")["data"].take();
    assert_eq!((&data["config"]["cache"]["ttl"], &data["source"]), (&"2h".into(), &text(&service.file).into()));
    assert_eq!(data["restart_needed"], serde_json::json!(["cache.max_size"]));
    let told = service.reload("[cache]\nttl = \"soon\"\n");
    let fault = format!("{}:10: cache.ttl: \"soon\" is not a length of time", text(&service.file));
    assert!(told.starts_with(&format!("READY=1\nSTATUS=an older configuration is in force: {fault}")), "{told}");
    let shown = service.config(&[]);
    assert!(shown.contains(&format!("\n#   {fault}")) && shown.contains("\nttl = \"2h\"\n"), "{shown}");
    assert_eq!(service.reload("[cache]\nttl = \"3h\"\n"), IN_FORCE);
    service.read("still-here").await;
    service.process.terminate();
    let ended = service.process.ended().await;
    assert_eq!(ended.status.code(), Some(0));
    for line in ["these settings were changed and need a restart", &fault.replace('"', "\\\""), "the configuration was read again"] {
        assert!(ended.stderr.contains(line), "{line} is not in {}", ended.stderr);
    }
}

#[tokio::test]
async fn the_level_of_the_log_follows() {
    for format in ["json", "text"] {
        let level = |level: &str| format!("[telemetry]\nformat = \"{format}\"\nlog = \"{level}\"\n");
        let service = Service::start(&level("info"));
        service.read("told-first").await;
        assert_eq!(service.reload(&level("warn")), IN_FORCE);
        service.read("not-told").await;
        assert_eq!(service.reload(&level("info,reputation_gateway=off")), IN_FORCE);
        service.read("told-again").await;
        service.process.terminate();
        let log = service.process.ended().await.stderr;
        assert_eq!(["told-first", "not-told", "told-again"].map(|id| log.contains(id)), [true, false, true], "{log}");
    }
}

#[tokio::test]
async fn the_file_of_a_running_process_is_watched() {
    let service = Service::start("[cache]\nttl = \"1h\"\n");
    let (new, admin) = (service.directory.path().join("new.toml"), service.process.address("admin"));
    write(&new, service.directory.path(), "[cache]\nttl = \"2h\"\n");
    std::fs::rename(&new, &service.file).expect("renamed");
    let followed = async {
        while Ask::new(admin, "/admin/v1/config").send().await.json()["data"]["config"]["cache"]["ttl"] != "2h" {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, followed).await.expect("it follows");
}
