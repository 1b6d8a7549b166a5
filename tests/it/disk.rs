//! A disk that fails: nothing billable leaves, what is free goes on, and all is well again once the cause is gone.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use rusqlite::Connection;

use crate::harness::process::{Process, text};
use crate::harness::{Ask, BUDGET, STORED, World, books, unchecked};

/// Where an `SQLite` file says which version of its format a writer has to know. Readers go on under a later one.
const WRITE_VERSION: u64 = 18;

/// What keeps a file from being written.
#[derive(Clone, Copy, Debug)]
enum Cause {
    ReadOnly,
    Corrupt,
    Locked,
}

/// What undoes it.
enum Remedy {
    Byte(u64, u8),
    Unlock(Connection),
}

impl Cause {
    fn befall(self, ledger: &Path) -> Remedy {
        let spoil = |offset: u64| {
            let file = File::options().read(true).write(true).open(ledger).expect("a file");
            let mut byte = [0];
            file.read_exact_at(&mut byte, offset).expect("a byte");
            file.write_all_at(&[9], offset).expect("written");
            Remedy::Byte(offset, byte[0])
        };
        match self {
            Self::ReadOnly => spoil(WRITE_VERSION),
            Self::Corrupt => spoil(0),
            Self::Locked => {
                let other = Connection::open(ledger).expect("a ledger");
                other.execute_batch("BEGIN IMMEDIATE").expect("locked");
                Remedy::Unlock(other)
            }
        }
    }
}

impl Remedy {
    fn apply(self, ledger: &Path) {
        match self {
            Self::Byte(offset, byte) => {
                File::options().write(true).open(ledger).and_then(|file| file.write_all_at(&[byte], offset)).expect("written");
            }
            Self::Unlock(other) => drop(other),
        }
    }
}

/// Asks until the answer is another one than that the ledger cannot be written.
async fn until_bought(ask: impl AsyncFn() -> crate::harness::Answer) -> crate::harness::Answer {
    loop {
        let answer = ask().await;
        if answer.header("x-gateway-decision") != "ledger_unavailable" {
            return answer;
        }
    }
}

#[tokio::test]
async fn a_ledger_that_cannot_be_written_at_the_start_is_used_once_it_can() {
    for cause in [Cause::ReadOnly, Cause::Corrupt, Cause::Locked] {
        let mut world = World::new().await;
        assert_eq!(world.fresh(&unchecked(0)).await.outcome(), (200, "billed"), "{cause:?}");
        world.stop().await;
        let remedy = cause.befall(&world.ledger());
        world.restart().await;

        let refused = world.fresh(&unchecked(1)).await;
        assert_eq!((refused.outcome(), refused.code().as_str()), ((503, "ledger_unavailable"), "ledger_unavailable"), "{cause:?}");
        assert_eq!(refused.header("x-should-retry"), "false");
        assert_eq!(world.read(&unchecked(2)).await.outcome(), (503, "ledger_unavailable"), "{cause:?}: a first read is billable");
        assert_eq!(world.read(STORED).await.outcome(), (200, "probe"), "{cause:?}: what is free goes on");
        let ready = world.admin("/readyz").await;
        assert!(ready.status == 200 && ready.text().contains("degraded"), "{cause:?}: {ready:?}");
        assert_eq!(world.metric("reputation_gateway_ledger_available").await, "0", "{cause:?}");
        assert_eq!(world.charged(), "0.10", "{cause:?}: nothing billable left");

        remedy.apply(&world.ledger());
        assert_eq!(until_bought(async || world.fresh(&unchecked(1)).await).await.outcome(), (200, "billed"), "{cause:?}");
        assert_eq!(world.fresh(&unchecked(0)).await.outcome(), (200, "cooldown"), "{cause:?}: what was paid before is remembered");
        assert_eq!(world.metric("reputation_gateway_budget_spent_usd{budget=\"all-day\"}").await, "0.2", "{cause:?}");
        assert_eq!((world.charged().as_str(), world.admin("/readyz").await.text().as_str()), ("0.20", "ready\n"), "{cause:?}");
    }
}

#[tokio::test]
async fn a_ledger_that_is_locked_while_it_is_used_is_used_again_afterwards() {
    let world = World::new().await;
    assert_eq!(world.fresh(&unchecked(0)).await.outcome(), (200, "billed"));
    let remedy = Cause::Locked.befall(&world.ledger());
    assert_eq!(world.fresh(&unchecked(1)).await.outcome(), (503, "ledger_unavailable"));
    assert_eq!(world.read(STORED).await.outcome(), (200, "probe"));
    remedy.apply(&world.ledger());
    assert_eq!(until_bought(async || world.fresh(&unchecked(1)).await).await.outcome(), (200, "billed"));
    assert_eq!(world.charged(), "0.20");
}

/// No file of the process may grow beyond this: to it, that is a disk that is full.
const ROOM: u64 = 192 * 1024;

/// Refusals in a row after which the disk is taken to be full for good: until then, closing the file makes some room.
const FOR_GOOD: usize = 50;

#[tokio::test]
async fn a_full_disk_lets_nothing_billable_leave_until_there_is_room() {
    let world = World::new().await;
    let directory = tempfile::tempdir().expect("a temporary directory");
    let (ledger, config) = (directory.path().join("ledger.sqlite"), directory.path().join("gateway.toml"));
    let upstream = format!("[upstream]\nbase_url = \"http://{}/v2\"\napi_key = \"key\"\nrate = \"1000000/s\"\n", world.upstream());
    let enterprise = "default_enterprise = \"6a09cdc3-8948-47f0-aa62-74ac943d6c58\"\n";
    let rest =
        "[auth]\nmode = \"open\"\n[fresh]\nrate = \"1000000/s\"\n[server]\nlisten = \"127.0.0.1:0\"\n[admin]\nlisten = \"127.0.0.1:0\"\n";
    let budget = BUDGET.replace("10.00", "1000.00");
    let settings = format!("{upstream}{enterprise}{rest}[ledger]\npath = {:?}\n{budget}", text(&ledger));
    std::fs::write(&config, settings + "[telemetry]\nlog = \"error\"\n").expect("written");
    let gateway = Process::start_within(ROOM, &["serve", "--config", text(&config)]);
    let address = gateway.address("listen");
    let fresh = async |n: usize| Ask::new(address, &format!("/v2/reputation/numbers/{}?fresh=true", unchecked(n))).send().await;

    let (mut bought, mut refused, mut next) = (0, 0, 0);
    while refused < FOR_GOOD {
        let answer = fresh(next).await;
        match answer.outcome() {
            (200, "billed") => (bought, refused, next) = (bought + 1, 0, next + 1),
            (503, "ledger_unavailable") => refused += 1,
            _ => panic!("{answer:?}"),
        }
    }
    assert!(bought > 0, "there was room for none");
    assert_eq!(world.charges().count, bought, "a call left without a hold");
    assert_eq!(Ask::new(address, &format!("/v2/reputation/numbers/{STORED}")).send().await.outcome(), (200, "probe"));

    gateway.lift_limit();
    assert_eq!(until_bought(async || fresh(next).await).await.outcome(), (200, "billed"));
    gateway.terminate();
    gateway.ended().await;
    assert_eq!(world.charges().count, bought + 1);
    let posted = books::posted(&books::charges(&ledger));
    assert_eq!(posted, world.charges().total.micros(), "and the books have all of it");
}
