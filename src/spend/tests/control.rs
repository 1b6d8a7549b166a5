//! What operators decide, what budgets report of themselves, and what later evidence corrects.

use super::*;

both![
    an_override_raises_a_limit_until_it_expires_also_over_a_restart,
    an_override_of_no_budget_and_one_too_many_are_refused,
    the_kill_switch_stops_every_hold_and_survives_a_restart,
    each_act_on_the_kill_switch_is_told_once_and_none_at_a_start,
    what_allows_work_again_does_not_undo_a_stop_that_came_after_it,
    an_edited_window_has_thresholds_of_its_own,
    a_dry_run_counts_what_it_would_refuse_and_refuses_nothing,
    each_threshold_is_told_once_in_a_window_also_over_a_restart,
    an_end_after_its_window_crosses_the_thresholds_of_that_window,
    several_charges_are_held_together_or_not_at_all,
    a_correction_takes_back_what_was_assumed_once,
    a_correction_of_a_window_that_is_over_counts_there,
    charges_beyond_the_retention_are_added_up_and_removed,
];

fn raise(bench: &Bench, budget: &str, amount: &str, hours: u64) -> Override {
    Override {
        budget: budget.to_owned(),
        amount: usd(amount),
        granted_at: bench.clock.now(),
        expires_at: bench.clock.now() + Duration::from_hours(hours),
        reason: "a campaign".to_owned(),
        author: "ops".to_owned(),
    }
}

async fn an_override_raises_a_limit_until_it_expires_also_over_a_restart(bench: Bench) {
    let ledger = bench.open(vec![budget("all", "0.10")]);
    let _hold = ledger.hold(charge("a")).await.expect("held");
    assert_eq!(exhausted(ledger.hold(charge("a")).await), "all");
    let status = ledger.raise(raise(&bench, "all", "0.20", 2)).await.expect("granted");
    assert_eq!((status.limit, status.raised, status.overrides.len()), (usd("0.30"), usd("0.20"), 1));
    assert_eq!(ledger.preview(&[charge("a")]), Ok(()));
    ledger.hold(charge("a")).await.expect("held").settle("200").await.expect("written");
    ledger.close().await;
    let ledger = bench.open(vec![budget("all", "0.10")]);
    assert_eq!(ledger.budgets()[0].limit, usd("0.30"));
    let hold = ledger.hold(charge("a")).await.expect("held");
    hold.release("404").await.expect("written");
    bench.advance_hours(2);
    assert_eq!(exhausted(ledger.hold(charge("a")).await), "all");
    assert_eq!((ledger.budgets()[0].limit, ledger.budgets()[0].raised), (usd("0.10"), Usd::ZERO));
}

async fn an_override_of_no_budget_and_one_too_many_are_refused(bench: Bench) {
    let ledger = bench.open(vec![budget("all", "0.10")]);
    assert_eq!(ledger.raise(raise(&bench, "none", "1.00", 1)).await, Err(OverrideRefused::NoSuchBudget));
    for _ in 0..100 {
        ledger.raise(raise(&bench, "all", "0.01", 1)).await.expect("granted");
    }
    assert_eq!(ledger.raise(raise(&bench, "all", "0.01", 1)).await, Err(OverrideRefused::TooMany(100)));
    bench.advance_hours(1);
    assert!(ledger.raise(raise(&bench, "all", "0.01", 1)).await.is_ok(), "those have expired");
}

async fn the_kill_switch_stops_every_hold_and_survives_a_restart(bench: Bench) {
    let ledger = bench.open(vec![budget("all", "1.00")]);
    let before = ledger.hold(charge("a")).await.expect("held");
    let set = ledger.switch(true, "an incident".to_owned(), "ops".to_owned()).await.expect("recorded");
    assert!(ledger.is_stopped());
    assert_eq!(ledger.hold(charge("a")).await.expect_err("stopped"), HoldRefused::Stopped);
    assert_eq!(ledger.preview(&[charge("a")]), Err(HoldRefused::Stopped));
    before.settle("a call under way ends as it does").await.expect("written");
    ledger.close().await;
    let ledger = bench.open(vec![budget("all", "1.00")]);
    assert_eq!(ledger.kill_switch(), set);
    assert_eq!(ledger.hold(charge("a")).await.expect_err("stopped"), HoldRefused::Stopped);
    ledger.switch(false, "it is over".to_owned(), "ops".to_owned()).await.expect("recorded");
    let _hold = ledger.hold(charge("a")).await.expect("held");
}

async fn each_act_on_the_kill_switch_is_told_once_and_none_at_a_start(bench: Bench) {
    let ledger = bench.open(vec![budget("all", "1.00")]);
    let told = |bench: &Bench| bench.take_events().lines().filter(|event| event.starts_with("Switched(")).count();
    for on in [true, true, false, true] {
        bench.clock.advance(Duration::from_secs(1));
        ledger.switch(on, "an incident".to_owned(), "ops".to_owned()).await.expect("recorded");
        assert_eq!(told(&bench), 1, "{on}");
    }
    ledger.close().await;
    let ledger = bench.open(vec![budget("all", "1.00")]);
    assert!(ledger.is_stopped());
    assert_eq!(told(&bench), 0);
}

#[tokio::test]
async fn a_stop_holds_although_it_cannot_be_recorded_and_is_recorded_when_it_can() {
    let bench = Bench::new();
    let ledger = bench.open(vec![budget("all", "1.00")]);
    bench.sql("CREATE TRIGGER fault BEFORE INSERT ON kill_switch BEGIN SELECT RAISE(ABORT, 'disk I/O error'); END");
    assert_eq!(ledger.switch(true, "an incident".to_owned(), "ops".to_owned()).await, Err(Unavailable));
    assert!(ledger.is_stopped());
    bench.sql("DROP TRIGGER fault");
    assert_eq!(ledger.hold(charge("a")).await.expect_err("stopped"), HoldRefused::Stopped);
    ledger.close().await;
    assert!(bench.open(vec![]).is_stopped());
}

#[tokio::test]
async fn a_stop_is_in_force_at_once_whatever_the_disk_does_and_however_full_the_queue_is() {
    let bench = Bench::new();
    let ledger = bench.open(vec![budget("all", "1000.00")]);
    let other = Connection::open(bench.path()).expect("opens");
    other.execute_batch("BEGIN IMMEDIATE").expect("locked");
    let mut waiting = Vec::new();
    while waiting.len() < SEATS {
        let mut asked = Box::pin(ledger.hold(charge("a")));
        if futures_util::FutureExt::now_or_never(&mut asked).is_some_and(|refused| refused.is_err()) {
            break;
        }
        waiting.push(asked);
    }
    assert!(ledger.switch(true, "an incident".to_owned(), "ops".to_owned()).await.is_err(), "there is no place to ask for its record");
    assert!(ledger.is_stopped());
    assert_eq!(ledger.preview(&[charge("a")]), Err(HoldRefused::Stopped));
    drop(waiting);
    other.execute_batch("ROLLBACK").expect("unlocked");
    ledger.close().await;
    assert!(bench.open(vec![]).is_stopped(), "and it is recorded with the next work");
}

async fn what_allows_work_again_does_not_undo_a_stop_that_came_after_it(bench: Bench) {
    let ledger = bench.open(vec![budget("all", "1.00")]);
    let set = |on| ledger.switch(on, "in turns".to_owned(), "ops".to_owned());
    set(true).await.expect("recorded");
    let (allowed, stopped) = tokio::join!(set(false), set(true));
    assert!(allowed.is_ok() && stopped.is_ok() && ledger.is_stopped());
    ledger.close().await;
    assert!(bench.open(vec![]).is_stopped());
}

async fn an_edited_window_has_thresholds_of_its_own(bench: Bench) {
    bench.clock.set_wall("2026-06-01T12:00:00Z".parse().expect("an instant"));
    let ledger = bench.open(vec![budget("all", "0.10")]);
    ledger.hold(charge("a")).await.expect("held").settle("200").await.expect("written");
    ledger.close().await;
    bench.take_events();
    let ledger = bench.open(vec![Budget { window: Window::Month, ..budget("all", "0.40") }]);
    ledger.hold(charge("a")).await.expect("held").settle("200").await.expect("written");
    let told = bench.take_events();
    assert!(told.contains("percent: 50"), "{told}");
}

#[tokio::test]
async fn a_clock_that_jumps_ahead_for_a_while_makes_no_budget_forget() {
    for restarted in [false, true] {
        let bench = Bench::new();
        let mut ledger = bench.open(vec![budget("all", "0.10")]);
        ledger.hold(charge("a")).await.expect("held").settle("200").await.expect("written");
        bench.clock.set_wall("2036-01-01T00:00:00Z".parse().expect("an instant"));
        if restarted {
            ledger.close().await;
            ledger = bench.open(vec![budget("all", "0.10")]);
        }
        // Work at which the writer would have time to roll up.
        for _ in 0..3 {
            barrier(&ledger).await;
        }
        bench.clock.set_wall(NOON.parse().expect("an instant"));
        assert_eq!(exhausted(ledger.hold(charge("a")).await), "all", "restarted: {restarted}");
    }
}

#[tokio::test]
async fn all_thresholds_of_a_window_leave_together() {
    let bench = Bench::new();
    bench.clock.set_wall("2026-03-01T12:00:00Z".parse().expect("an instant"));
    let config = Config { path: bench.path(), retention: "32d".parse().expect("a time") };
    let monthly = vec![Budget { window: Window::Month, ..budget("all", "0.20") }];
    let ledger = Ledger::open(&config, monthly, MEMORY, bench.clock.clone(), Arc::new(|_| {})).expect("opens");
    for days in [19, 26] {
        ledger.hold(charge("a")).await.expect("held").settle("200").await.expect("written");
        bench.advance_hours(days * 24);
    }
    for _ in 0..3 {
        barrier(&ledger).await;
    }
    let report = crate::spend::books::Books::open(&bench.path()).expect("opens").verify(&[], |_, _| {}).expect("readable");
    assert!(report.is_clean() && report.summary.rolled_up_calls == 1, "{report:?}");
}

async fn a_dry_run_counts_what_it_would_refuse_and_refuses_nothing(bench: Bench) {
    let ledger = bench.open(vec![Budget { enforce: false, ..budget("trial", "0.10") }, budget("all", "0.20")]);
    let _holds = (ledger.hold(charge("a")).await.expect("held"), ledger.hold(charge("a")).await.expect("held"));
    assert_eq!(exhausted(ledger.hold(charge("a")).await), "all");
    insta::allow_duplicates! {
        insta::assert_snapshot!(bench.take_events(), @r#"
        Allowed { budget: "trial" }
        Allowed { budget: "all" }
        Denied { budget: "trial" }
        Allowed { budget: "all" }
        Denied { budget: "trial" }
        Denied { budget: "all" }
        "#);
    }
    assert_eq!(figures(&ledger), ["trial: 0.00 + 0.20", "all: 0.00 + 0.20"]);
}

async fn each_threshold_is_told_once_in_a_window_also_over_a_restart(bench: Bench) {
    let hourly = || vec![Budget { window: Window::Hour, ..budget("hourly", "1.00") }];
    let ledger = bench.open(hourly());
    let mut crossed = Vec::new();
    for spent in 1..=10 {
        ledger.hold(charge("a")).await.expect("held").settle("200").await.expect("written");
        let events = bench.take_events();
        crossed.extend(events.lines().filter(|event| event.starts_with("Threshold")).map(|event| format!("{spent}: {event}")));
    }
    insta::allow_duplicates! {
        insta::assert_snapshot!(crossed.join("\n"), @r#"
        5: Threshold { budget: "hourly", percent: 50, spent: Usd(500000), limit: Usd(1000000), window: Interval { start: 2026-06-15T12:00:00Z, end: 2026-06-15T13:00:00Z }, at: 2026-06-15T12:30:00Z }
        8: Threshold { budget: "hourly", percent: 80, spent: Usd(800000), limit: Usd(1000000), window: Interval { start: 2026-06-15T12:00:00Z, end: 2026-06-15T13:00:00Z }, at: 2026-06-15T12:30:00Z }
        10: Threshold { budget: "hourly", percent: 95, spent: Usd(1000000), limit: Usd(1000000), window: Interval { start: 2026-06-15T12:00:00Z, end: 2026-06-15T13:00:00Z }, at: 2026-06-15T12:30:00Z }
        10: Threshold { budget: "hourly", percent: 100, spent: Usd(1000000), limit: Usd(1000000), window: Interval { start: 2026-06-15T12:00:00Z, end: 2026-06-15T13:00:00Z }, at: 2026-06-15T12:30:00Z }
        "#);
    }
    ledger.close().await;
    let ledger = bench.open(hourly());
    ledger.raise(raise(&bench, "hourly", "1.00", 5)).await.expect("granted");
    for _ in 0..10 {
        ledger.hold(charge("a")).await.expect("held").settle("200").await.expect("written");
    }
    assert!(!bench.take_events().contains("Threshold"), "each of them was told in this window");
    let late = ledger.hold(Charge { price: Usd::ZERO, ..charge("a") }).await.expect("held");
    bench.advance_hours(1);
    for _ in 0..10 {
        ledger.hold(charge("a")).await.expect("held").settle("200").await.expect("written");
    }
    late.settle("200").await.expect("written");
    let told = bench.take_events().lines().filter(|event| event.starts_with("Threshold")).count();
    assert_eq!(told, 1, "half of two dollars, in the new window");
    assert_eq!(ledger.budgets()[0].threshold, 50);
}

async fn an_end_after_its_window_crosses_the_thresholds_of_that_window(bench: Bench) {
    let ledger = bench.open(vec![Budget { window: Window::Hour, ..budget("hourly", "0.10") }]);
    let late = ledger.hold(charge("a")).await.expect("held");
    bench.advance_hours(1);
    late.settle("200").await.expect("written");
    assert_eq!(bench.take_events().lines().filter(|event| event.starts_with("Threshold")).count(), 4);
    assert_eq!(ledger.budgets()[0].threshold, 0, "of the window now");
}

async fn several_charges_are_held_together_or_not_at_all(bench: Bench) {
    let dialer = Budget { caller: Some("dialer".to_owned()), ..budget("dialer", "0.20") };
    let ledger = bench.open(vec![budget("all", "0.30"), dialer]);
    let three = vec![charge("dialer"), charge("dialer"), charge("dialer")];
    assert_eq!(exhausted(ledger.hold_all(three.clone()).await.map(|mut holds| holds.remove(0))), "dialer");
    assert_eq!(ledger.preview(&three).map_err(|refused| refused.to_string()), Err("budget \"dialer\" is exhausted".to_owned()));
    assert_eq!(figures(&ledger), ["all: 0.00 + 0.00", "dialer: 0.00 + 0.00"]);
    let holds = ledger.hold_all(vec![charge("crm"), charge("dialer"), charge("dialer")]).await.expect("held");
    assert_eq!(figures(&ledger), ["all: 0.00 + 0.30", "dialer: 0.00 + 0.20"]);
    for (hold, billed) in holds.into_iter().zip([true, false, true]) {
        let ended = if billed { hold.settle("success").await } else { hold.release("refused").await };
        ended.expect("written");
    }
    assert_eq!(figures(&ledger), ["all: 0.20 + 0.00", "dialer: 0.10 + 0.00"]);
}

async fn a_correction_takes_back_what_was_assumed_once(bench: Bench) {
    let ledger = bench.open(vec![budget("all", "0.30")]);
    let ids = [charge("a"), charge("b"), charge("c")].map(|charge| async { ledger.hold(charge).await.expect("held") });
    let [assumed, kept, settled] = futures_util::future::join_all(ids).await.try_into().expect("three");
    let (assumed_id, kept_id, settled_id) = (assumed.id(), kept.id(), settled.id());
    assert_eq!(ledger.correct(assumed_id, Finding::NotBilled, "too early").await, Ok(false), "it has not ended");
    assumed.assume("lost").await.expect("written");
    kept.assume("lost").await.expect("written");
    settled.settle("200").await.expect("written");
    assert_eq!(figures(&ledger), ["all: 0.30 + 0.00"]);
    assert_eq!(ledger.correct(kept_id, Finding::Billed, "newer data").await, Ok(true));
    assert_eq!(ledger.correct(assumed_id, Finding::NotBilled, "older data").await, Ok(true));
    assert_eq!(ledger.correct(assumed_id, Finding::NotBilled, "again").await, Ok(false));
    assert_eq!(ledger.correct(settled_id, Finding::NotBilled, "settled is settled").await, Ok(false));
    assert_eq!(figures(&ledger), ["all: 0.20 + 0.00"]);
    let taken_back: Vec<_> = bench.take_events().lines().filter(|event| event.starts_with("TakenBack")).map(str::to_owned).collect();
    insta::allow_duplicates! {
        insta::assert_snapshot!(taken_back.join("\n"), @r#"
        TakenBack { amount: Usd(0), caller: "b" }
        TakenBack { amount: Usd(100000), caller: "a" }
        "#);
    }
    let _hold = ledger.hold(charge("a")).await.expect("there is room again");
    ledger.close().await;
    assert_eq!(figures(&bench.open(vec![budget("all", "0.30")])), ["all: 0.30 + 0.00"]);
    let recalled: Vec<_> = bench.take_events().lines().filter(|event| event.starts_with("Recalled")).map(str::to_owned).collect();
    assert_eq!(recalled.len(), 3, "{recalled:?}");
    assert_eq!(recalled.iter().filter(|event| event.contains("is_known: true")).count(), 2, "{recalled:?}");
}

async fn a_correction_of_a_window_that_is_over_counts_there(bench: Bench) {
    let ledger = bench.open(vec![Budget { window: Window::Hour, ..budget("hourly", "0.10") }]);
    let hold = ledger.hold(charge("a")).await.expect("held");
    let id = hold.id();
    hold.assume("lost").await.expect("written");
    bench.advance_hours(1);
    let _hold = ledger.hold(charge("a")).await.expect("held");
    assert_eq!(ledger.correct(id, Finding::NotBilled, "older data").await, Ok(true));
    assert_eq!(figures(&ledger), ["hourly: 0.00 + 0.10"]);
    bench.clock.set_wall(NOON.parse().expect("an instant"));
    assert_eq!(figures(&ledger), ["hourly: 0.00 + 0.00"]);
}

async fn charges_beyond_the_retention_are_added_up_and_removed(bench: Bench) {
    let ledger = bench.open(vec![budget("all", "1000.00")]);
    for _ in 0..501 {
        ledger.hold(charge("a")).await.expect("held").settle("200").await.expect("written");
    }
    ledger.hold(charge("b")).await.expect("held").release("404").await.expect("written");
    let open = ledger.hold(charge("b")).await.expect("held");
    bench.advance_hours(401 * 24);
    let day = |ledger: &Ledger| {
        ledger.read(|file| {
            let mut rows =
                file.prepare("SELECT caller || ': ' || calls || ' for ' || posted_usd FROM spend_by_day ORDER BY day, caller")?;
            let rows = rows.query_map([], |row| row.get::<_, String>(0))?;
            let count: i64 = file.query_row("SELECT count(*) FROM charge", [], |row| row.get(0))?;
            Ok((rows.collect::<Result<Vec<_>, _>>()?, count))
        })
    };
    let before = day(&ledger).expect("readable");
    assert_eq!(before, (vec!["a: 501 for 50.100000".to_owned(), "b: 2 for 0.000000".to_owned()], 503));
    // Each barrier leaves a charge of today, and lets the writer roll up some more.
    for _ in 0..3 {
        barrier(&ledger).await;
    }
    let (rows, count) = day(&ledger).expect("readable");
    assert_eq!((rows[..2].to_vec(), count), (before.0, 4), "what is open stays");
    open.settle("200, very late").await.expect("written");
}
