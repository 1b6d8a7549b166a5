//! Moments as the log writes them, to the microsecond: `2026-11-21T10:17:21.890512Z`.

use jiff::Timestamp;

const MICROSECONDS: i64 = 1_000_000;

/// What stands behind the whole second: a point, six digits, and `Z`.
const DIGITS: usize = 6;

/// The last moment that was written. Within a second all but its last digits stay.
#[derive(Debug, Default)]
pub(super) struct Stamp {
    second: Option<i64>,
    text: Vec<u8>,
}

impl Stamp {
    /// The text of a moment.
    pub(super) fn at(&mut self, moment: Timestamp) -> &[u8] {
        let microseconds = moment.as_microsecond();
        let second = Some(microseconds.div_euclid(MICROSECONDS));
        if self.second != second {
            self.second = second;
            self.text = format!("{moment:.DIGITS$}").into_bytes();
        }
        let mut rest = microseconds.rem_euclid(MICROSECONDS);
        for digit in self.text.iter_mut().rev().skip(1).take(DIGITS) {
            *digit = b'0' + u8::try_from(rest % 10).unwrap_or_default();
            rest /= 10;
        }
        &self.text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_moment_is_written_to_the_microsecond() {
        let mut stamp = Stamp::default();
        for (moment, text) in [
            ("2026-11-21T10:17:21.890512999Z", "2026-11-21T10:17:21.890512Z"),
            ("2026-11-21T10:17:21.000007Z", "2026-11-21T10:17:21.000007Z"),
            ("2026-11-21T10:17:22Z", "2026-11-21T10:17:22.000000Z"),
            ("2026-11-21T10:17:21.999999Z", "2026-11-21T10:17:21.999999Z"),
            ("1969-12-31T23:59:59.25Z", "1969-12-31T23:59:59.250000Z"),
        ] {
            let moment: Timestamp = moment.parse().expect("a moment");
            assert_eq!(String::from_utf8_lossy(stamp.at(moment)), text);
        }
    }
}
