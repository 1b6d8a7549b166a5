//! Operators look at a running gateway's money and steer it: the real command on both sides of the admin listener.

use serde_json::Value;

use crate::harness::process::{Process, said, text};
use crate::harness::{Answer, Ask, unchecked};

/// Where everything that outlives a process is.
struct Place(tempfile::TempDir);

/// A gateway before a stand-in of its own, and the commands that are pointed at it.
struct Gateway<'p> {
    process: Process,
    place: &'p Place,
}

impl Place {
    /// A configuration with ten cents a month and this in `[admin]`.
    fn new(admin: &str) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let config = format!(
            "[server]\nlisten = \"127.0.0.1:0\"\n[admin]\nlisten = \"127.0.0.1:0\"\n{admin}\n[auth]\nmode = \"open\"\n\
             [ledger]\npath = \"{}\"\n[[budget]]\nname = \"all month\"\nlimit = \"0.10\"\nwindow = \"month\"\n",
            text(&directory.path().join("ledger.sqlite")),
        );
        std::fs::write(directory.path().join("gateway.toml"), config).expect("writable");
        Self(directory)
    }

    fn config(&self) -> std::path::PathBuf {
        self.0.path().join("gateway.toml")
    }

    fn serve(&self) -> Gateway<'_> {
        Gateway { process: Process::start(&["serve", "--sandbox=127.0.0.1:0", "--config", text(&self.config())]), place: self }
    }
}

impl Gateway<'_> {
    /// Runs a command against it with the configuration's token.
    fn told(&self, words: &[&str]) -> (Option<i32>, String) {
        let (config, admin) = (self.place.config(), self.process.address("admin").to_string());
        said(&[words, &["--config", text(&config), "--admin-listen", &admin]].concat())
    }

    /// The same, and it works.
    fn tell(&self, words: &[&str]) -> String {
        let (code, said) = self.told(words);
        assert_eq!(code, Some(0), "{words:?}: {said}");
        said
    }

    async fn fresh(&self, number: &str) -> Answer {
        Ask::new(self.process.address("listen"), &format!("/v2/reputation/numbers/{number}?fresh=true")).send().await
    }

    async fn stop(self) {
        self.process.terminate();
        assert_eq!(self.process.ended().await.status.code(), Some(0));
    }
}

#[tokio::test]
async fn an_override_lets_work_go_on_and_outlives_a_restart() {
    let place = Place::new("");
    let gateway = place.serve();
    assert_eq!(gateway.fresh(&unchecked(0)).await.outcome(), (200, "billed"));
    assert_eq!(gateway.fresh(&unchecked(1)).await.outcome(), (402, "budget_exhausted"));
    let listed = gateway.tell(&["budgets"]);
    assert!(listed.lines().count() == 2 && listed.contains("100%") && listed.contains("enforced"), "{listed}");
    let raised =
        gateway.tell(&["budgets", "override", "all month", "--add", "0.10", "--until", "2h", "--reason", "campaign", "--author", "alice"]);
    assert!(raised.starts_with("all month: 0.10 more until ") && raised.contains("0.20 (0.10 + 0.10), and 0.10 is left"), "{raised}");
    assert_eq!(gateway.fresh(&unchecked(1)).await.outcome(), (200, "billed"));
    gateway.stop().await;
    let gateway = place.serve();
    let listed = gateway.tell(&["budgets"]);
    assert!(listed.contains("0.20 (0.10 + 0.10)") && listed.contains(", by alice: campaign"), "{listed}");
    let answer: Value = serde_json::from_str(&gateway.tell(&["budgets", "--json"])).expect("JSON");
    let budget = &answer["data"][0];
    assert_eq!((&budget["spent_usd"], &budget["override_usd"]), (&"0.20".into(), &"0.10".into()));
    assert_eq!(gateway.fresh(&unchecked(2)).await.outcome(), (402, "budget_exhausted"));
}

#[tokio::test]
async fn an_override_that_cannot_be_is_refused_by_its_reason() {
    let place = Place::new("");
    let gateway = place.serve();
    let grant = |name, until| gateway.told(&["budgets", "override", name, "--add", "1.00", "--until", until, "--reason", "campaign"]);
    let (code, why) = grant("no-such", "2h");
    assert!(code == Some(1) && why.contains("no-such"), "{code:?} {why}");
    let (code, why) = grant("all month", "2020-01-01");
    assert_eq!(code, Some(1), "it would end before it begins: {why}");
    assert!(gateway.tell(&["budgets"]).lines().nth(1).is_some_and(|row| row.contains(" 0.10 ") && !row.contains('+')));
}

#[tokio::test]
async fn the_kill_switch_stops_billable_work_until_it_is_turned_off_and_outlives_a_restart() {
    let place = Place::new("");
    let gateway = place.serve();
    assert_eq!(gateway.tell(&["kill-switch"]), "the kill switch is off\n");
    let on = gateway.tell(&["kill-switch", "on", "--reason", "runaway dialer"]);
    assert!(on.starts_with("the kill switch is on since ") && on.ends_with(", by unknown: runaway dialer\n"), "{on}");
    assert_eq!(gateway.fresh(&unchecked(0)).await.header("x-gateway-decision"), "kill_switch");
    gateway.stop().await;
    let gateway = place.serve();
    assert_eq!(gateway.tell(&["kill-switch", "status"]), on, "a restart changes nothing");
    assert!(gateway.tell(&["budgets"]).contains("\nnothing billable is sent: the kill switch is on since "));
    assert_eq!(gateway.fresh(&unchecked(0)).await.header("x-gateway-decision"), "kill_switch");
    let off = gateway.tell(&["kill-switch", "off", "--reason", "mended", "--author", "bob"]);
    assert!(off.starts_with("the kill switch is off"), "{off}");
    assert_eq!(gateway.fresh(&unchecked(0)).await.outcome(), (200, "billed"));
    assert!(!gateway.tell(&["budgets"]).contains("kill switch"));
}

#[tokio::test]
async fn commands_present_the_token_of_the_configuration() {
    let place = Place::new("token = \"T0KEN-plain\"");
    let gateway = place.serve();
    assert_eq!(gateway.tell(&["kill-switch"]), "the kill switch is off\n");
    let admin = gateway.process.address("admin").to_string();
    for words in [&["budgets"][..], &["kill-switch"], &["kill-switch", "on", "--reason", "a stranger's"]] {
        let (code, why) = said(&[words, &["--admin-listen", &admin]].concat());
        assert!(code == Some(1) && why.contains("admin.token"), "{code:?} {why}");
    }
    assert_eq!(gateway.tell(&["kill-switch"]), "the kill switch is off\n");
}

#[tokio::test]
async fn a_gateway_that_is_not_there_is_named_by_its_address() {
    let place = Place::new("");
    let gateway = place.serve();
    let admin = gateway.process.address("admin").to_string();
    gateway.stop().await;
    for words in [&["budgets"][..], &["kill-switch"]] {
        let (code, why) = said(&[words, &["--admin-listen", &admin]].concat());
        assert!(code == Some(1) && why.contains(&admin) && why.contains("--admin-listen ADDR"), "{code:?} {why}");
    }
    let (code, why) = said(&["budgets", "--config", "nowhere.toml"]);
    assert!(code == Some(78) && why.contains("nowhere.toml"), "{code:?} {why}");
}
