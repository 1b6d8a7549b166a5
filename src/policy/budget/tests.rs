//! Windows over daylight saving time, month ends and leap days; what budgets cover; how they are written.

use proptest::prelude::*;

use super::*;

fn budget(window: Window, zone: &str) -> Budget {
    Budget {
        name: "test".to_owned(),
        limit: Usd::from_micros(1_000_000),
        window,
        time_zone: TimeZone::get(zone).expect(zone),
        enforce: true,
        caller: None,
        enterprise: None,
        operation: None,
    }
}

/// The window around an instant, as its bounds in UTC.
fn window(window: Window, zone: &str, now: &str) -> (String, String) {
    let interval = budget(window, zone).window_at(now.parse().expect(now));
    (interval.start.to_string(), interval.end.to_string())
}

#[track_caller]
fn assert_window(kind: Window, zone: &str, now: &str, start: &str, end: &str) {
    assert_eq!(window(kind, zone, now), (start.to_owned(), end.to_owned()), "{kind:?} around {now} in {zone}");
}

#[test]
fn a_day_is_23_or_25_hours_where_clocks_change() {
    let ny = "America/New_York";
    assert_window(Window::Day, ny, "2026-03-08T12:00:00Z", "2026-03-08T05:00:00Z", "2026-03-09T04:00:00Z");
    assert_window(Window::Day, ny, "2026-11-01T12:00:00Z", "2026-11-01T04:00:00Z", "2026-11-02T05:00:00Z");
    let berlin = "Europe/Berlin";
    assert_window(Window::Day, berlin, "2026-03-29T12:00:00Z", "2026-03-28T23:00:00Z", "2026-03-29T22:00:00Z");
    assert_window(Window::Day, berlin, "2026-10-25T12:00:00Z", "2026-10-24T22:00:00Z", "2026-10-25T23:00:00Z");
    let sydney = "Australia/Sydney";
    assert_window(Window::Day, sydney, "2026-10-04T02:00:00Z", "2026-10-03T14:00:00Z", "2026-10-04T13:00:00Z");
    assert_window(Window::Day, sydney, "2026-04-05T02:00:00Z", "2026-04-04T13:00:00Z", "2026-04-05T14:00:00Z");
}

#[test]
fn an_hour_shown_twice_is_two_windows_of_an_hour() {
    let ny = "America/New_York";
    assert_window(Window::Hour, ny, "2026-11-01T05:30:00Z", "2026-11-01T05:00:00Z", "2026-11-01T06:00:00Z");
    assert_window(Window::Hour, ny, "2026-11-01T06:30:00Z", "2026-11-01T06:00:00Z", "2026-11-01T07:00:00Z");
    assert_window(Window::Hour, "Asia/Kolkata", "2026-05-01T00:00:00Z", "2026-04-30T23:30:00Z", "2026-05-01T00:30:00Z");
    // Lord Howe Island goes from 02:00 back to 01:30: the second half hour stands alone.
    assert_window(Window::Hour, "Australia/Lord_Howe", "2026-04-04T15:10:00Z", "2026-04-04T15:00:00Z", "2026-04-04T15:30:00Z");
}

#[test]
fn a_day_without_midnight_begins_with_its_first_instant() {
    // Beirut goes from 00:00 to 01:00; Toronto went from 23:30 to 00:30 in 1919.
    assert_window(Window::Day, "Asia/Beirut", "2026-03-29T10:00:00Z", "2026-03-28T22:00:00Z", "2026-03-29T21:00:00Z");
    assert_window(Window::Day, "America/Toronto", "1919-03-31T04:35:00Z", "1919-03-31T04:30:00Z", "1919-04-01T04:00:00Z");
}

#[test]
fn a_day_that_clocks_are_set_back_out_of_does_not_begin_twice() {
    // St. John's went from 00:01 back to 23:01 of the day before.
    for now in ["2006-10-29T02:30:30Z", "2006-10-29T03:00:00Z", "2006-10-29T12:00:00Z"] {
        assert_window(Window::Day, "America/St_Johns", now, "2006-10-29T02:30:00Z", "2006-10-30T03:30:00Z");
    }
}

#[test]
fn a_day_that_never_was_is_in_no_window() {
    // Samoa left out 30 December 2011.
    assert_window(Window::Day, "Pacific/Apia", "2011-12-30T09:59:59Z", "2011-12-29T10:00:00Z", "2011-12-30T10:00:00Z");
    assert_window(Window::Day, "Pacific/Apia", "2011-12-30T10:00:00Z", "2011-12-30T10:00:00Z", "2011-12-31T10:00:00Z");
}

#[test]
fn months_end_on_their_last_day_and_leap_days_count() {
    assert_window(Window::Month, "UTC", "2028-02-29T23:59:59Z", "2028-02-01T00:00:00Z", "2028-03-01T00:00:00Z");
    assert_window(Window::Month, "UTC", "2026-02-28T23:59:59.999999Z", "2026-02-01T00:00:00Z", "2026-03-01T00:00:00Z");
    assert_window(Window::Month, "UTC", "2026-12-31T23:00:00Z", "2026-12-01T00:00:00Z", "2027-01-01T00:00:00Z");
    assert_window(Window::Month, "America/New_York", "2026-03-31T12:00:00Z", "2026-03-01T05:00:00Z", "2026-04-01T04:00:00Z");
    assert_window(Window::Day, "UTC", "2028-02-29T12:00:00Z", "2028-02-29T00:00:00Z", "2028-03-01T00:00:00Z");
}

#[test]
fn weeks_begin_on_monday() {
    assert_window(Window::Week, "UTC", "2026-01-01T00:00:00Z", "2025-12-29T00:00:00Z", "2026-01-05T00:00:00Z");
    assert_window(Window::Week, "UTC", "2026-01-05T00:00:00Z", "2026-01-05T00:00:00Z", "2026-01-12T00:00:00Z");
    assert_window(Window::Week, "Europe/Berlin", "2026-03-29T21:59:59Z", "2026-03-22T23:00:00Z", "2026-03-29T22:00:00Z");
}

#[test]
fn a_budget_covers_what_meets_all_its_conditions() {
    let enterprise: EnterpriseId = "6a09cdc3-8948-47f0-aa62-74ac943d6c58".parse().expect("a UUID");
    let charge = Charge {
        request_id: "r1".to_owned(),
        caller: "dialer".into(),
        enterprise,
        number: Some("+12025550000".parse().expect("E.164")),
        operation: Billable::Fresh,
        price: Usd::from_micros(100_000),
    };
    let mut budget = budget(Window::Day, "UTC");
    assert!(budget.applies_to(&charge));
    assert_eq!(budget.scope().to_string(), "global");
    (budget.caller, budget.enterprise) = (Some("dialer".to_owned()), Some(enterprise));
    assert!(budget.applies_to(&charge));
    budget.operation = Some(Billable::FirstTouch);
    assert!(!budget.applies_to(&charge));
    assert_eq!(budget.scope().to_string(), format!("caller=dialer,enterprise={enterprise},operation=first_touch"));
}

#[test]
fn a_budget_is_read_from_the_configuration_and_written_back() {
    let text = "name = \"all-month\"\nlimit = \"500.00\"\nwindow = \"month\"\ntime_zone = \"Europe/Berlin\"\noperation = \"fresh\"\n";
    let budget: Budget = toml::from_str(text).expect("a budget");
    assert_eq!(toml::to_string(&budget).expect("serialises"), text);
    let short: Budget = toml::from_str("name = \"a\"\nlimit = \"1\"\nwindow = \"hour\"").expect("a budget");
    assert_eq!(short.time_zone, TimeZone::UTC);
}

#[test]
fn a_budget_that_cannot_be_meant_is_refused() {
    let base = "name = \"a\"\nlimit = \"1\"\n";
    for (line, complaint) in [
        ("window = \"day\"\ntime_zone = \"Mars/Olympus\"", "\"Mars/Olympus\" is no IANA time zone"),
        ("window = \"day\"\ntime_zone = \"+02:00\"", "is no IANA time zone"),
        ("window = \"year\"", "unknown variant `year`"),
        ("window = \"day\"\ncolor = \"red\"", "unknown field `color`"),
    ] {
        let error = toml::from_str::<Budget>(&format!("{base}{line}")).expect_err(line);
        assert!(error.to_string().contains(complaint), "{error}");
    }
}

const ZONES: [&str; 8] = [
    "UTC",
    "America/New_York",
    "Europe/Berlin",
    "Australia/Lord_Howe",
    "America/St_Johns",
    "Asia/Beirut",
    "Pacific/Apia",
    "Asia/Kathmandu",
];

proptest! {
    #[test]
    fn windows_tile_time(second in 0_i64..4_000_000_000, zone in 0..ZONES.len(), kind in 0..4_usize) {
        let kind = [Window::Hour, Window::Day, Window::Week, Window::Month][kind];
        let budget = budget(kind, ZONES[zone]);
        let now = Timestamp::from_second(second).expect("in range");
        let here = budget.window_at(now);
        prop_assert!(here.contains(now));
        let last = here.end.checked_sub(1.nanosecond()).expect("in range");
        for inside in [here.start, last] {
            prop_assert_eq!(budget.window_at(inside), here);
        }
        prop_assert_eq!(budget.window_at(here.end).start, here.end);
    }

    #[test]
    fn windows_tile_the_hours_around_a_change_of_clocks(minute in -180_i64..180, zone in 0..ZONES.len(), kind in 0..4_usize, nth in 0..40_usize) {
        let kind = [Window::Hour, Window::Day, Window::Week, Window::Month][kind];
        let budget = budget(kind, ZONES[zone]);
        let from: Timestamp = "1990-01-01T00:00:00Z".parse().expect("an instant");
        let Some(change) = budget.time_zone.following(from).nth(nth) else { return Ok(()) };
        let now = change.timestamp() + minute.minutes();
        let here = budget.window_at(now);
        prop_assert!(here.contains(now));
        prop_assert_eq!(budget.window_at(here.end).start, here.end);
        prop_assert_eq!(budget.window_at(here.start - 1.nanosecond()).end, here.start);
    }
}
