//! The file stays bounded: charges beyond the retention are added up by day, caller, enterprise and operation, and removed.

use std::time::Duration;

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use rusqlite::{Connection, params};

use super::store;

/// How many charges one transaction rolls up: few enough that a hold hardly notices.
const CHARGES: u32 = 500;

/// What is left to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    MoreToDo,
    Done,
}

/// Longer than any budget's window.
const MONTH: SignedDuration = SignedDuration::from_hours(32 * 24);

/// Rolls up some of what ended before the retention, counted from `today`'s midnight. Open holds stay.
pub(super) fn roll_up(connection: &mut Connection, today: Date, retention: Duration) -> rusqlite::Result<Progress> {
    let midnight = today.to_zoned(TimeZone::UTC).map_or(Timestamp::UNIX_EPOCH, |midnight| midnight.timestamp());
    let retention = SignedDuration::try_from(retention).unwrap_or(SignedDuration::MAX);
    let before = midnight.checked_sub(retention).unwrap_or(Timestamp::MIN);
    // All thresholds of a window leave together.
    let window_before = before.checked_sub(MONTH).unwrap_or(Timestamp::MIN).as_microsecond();
    let before = before.as_microsecond();
    let transaction = store::begin(connection)?;
    let ended = ended_before(&transaction, before)?;
    for id in &ended {
        transaction
            .prepare_cached(
                "INSERT INTO rolled_up (day, caller, enterprise, operation, calls, posted_micros)
                 SELECT coalesce(date(held_at_us / 1000000, 'unixepoch'), '0000-01-01'), caller, enterprise, operation, 1, posted_micros FROM balance WHERE id = ?
                 ON CONFLICT DO UPDATE SET calls = calls + 1, posted_micros = posted_micros + excluded.posted_micros",
            )?
            .execute([id])?;
        transaction.prepare_cached("DELETE FROM entry WHERE charge = ?")?.execute([id])?;
        transaction.prepare_cached("DELETE FROM charge WHERE id = ?")?.execute([id])?;
    }
    transaction.execute("DELETE FROM budget_override WHERE expires_at_us < ?", [before])?;
    transaction.execute("DELETE FROM budget_threshold WHERE window_start_us < ?", [window_before])?;
    transaction.execute("DELETE FROM kill_switch WHERE at_us < ? AND seq < (SELECT max(seq) FROM kill_switch)", [before])?;
    transaction.execute("DELETE FROM reconciliation WHERE at_us < ? AND seq < (SELECT max(seq) FROM reconciliation)", [before])?;
    transaction.commit()?;
    Ok(if ended.len() < CHARGES as usize { Progress::Done } else { Progress::MoreToDo })
}

/// The oldest charges that were held before this time and have ended.
fn ended_before(connection: &Connection, before: i64) -> rusqlite::Result<Vec<i64>> {
    connection
        .prepare_cached("SELECT id FROM balance WHERE held_at_us < ? AND held_micros IS NULL ORDER BY held_at_us LIMIT ?")?
        .query_map(params![before, CHARGES], |row| row.get(0))?
        .collect()
}
