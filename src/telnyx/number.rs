//! Telephone numbers in E.164.

use std::fmt;
use std::str::FromStr;

use crate::units::as_text;

/// An E.164 number: `+`, then 7 to 15 digits, of which the first is not 0.
///
/// [`fmt::Display`] writes it whole; [`fmt::Debug`] and [`PhoneNumber::masked`] hide its middle, for logs.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PhoneNumber(u64);

/// A text that is no E.164 number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a phone number is written in E.164: \"+\", then 7 to 15 digits, the first not 0, as in +16035551234")]
pub struct NotE164;

impl PhoneNumber {
    /// Reads a path segment that was decoded once: a caller who encodes before an SDK does leaves `%2B` for the plus.
    pub fn from_segment(segment: &str) -> Result<Self, NotE164> {
        match segment.strip_prefix("%2B").or_else(|| segment.strip_prefix("%2b")) {
            Some(digits) => format!("+{digits}").parse(),
            None => segment.parse(),
        }
    }

    /// The digits as one whole number; E.164 has no leading zero, so nothing is lost.
    pub const fn digits(self) -> u64 {
        self.0
    }

    /// The number with all but its first two and last two digits hidden: `+16*******34`.
    pub fn masked(self) -> String {
        format!("{self:?}")
    }
}

impl FromStr for PhoneNumber {
    type Err = NotE164;

    fn from_str(text: &str) -> Result<Self, NotE164> {
        let digits = text.strip_prefix('+').ok_or(NotE164)?;
        let shaped = (7..=15).contains(&digits.len()) && !digits.starts_with('0') && digits.bytes().all(|byte| byte.is_ascii_digit());
        if shaped { digits.parse().map(Self).map_err(|_| NotE164) } else { Err(NotE164) }
    }
}

impl fmt::Display for PhoneNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "+{}", self.0)
    }
}

impl fmt::Debug for PhoneNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let length = self.0.ilog10() as usize + 1;
        let (first, hidden, last) = (self.0 / 10_u64.pow(self.0.ilog10() - 1), length - 4, self.0 % 100);
        write!(f, "+{first}{:*<hidden$}{last:02}", "")
    }
}

as_text! { PhoneNumber: "a phone number in E.164, in quotes" }

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_is_not_e164_is_refused() {
        for text in [
            "",
            "+",
            "16035551234",
            "+0123456789",
            "+123456",
            "+1234567890123456",
            "+1603555123a",
            "+1 6035551234",
            " +16035551234",
            "+１６０３５５５",
        ] {
            assert_eq!(text.parse::<PhoneNumber>(), Err(NotE164), "{text:?}");
        }
    }

    #[test]
    fn a_plus_that_was_encoded_twice_is_a_plus() {
        for segment in ["+16035551234", "%2B16035551234", "%2b16035551234"] {
            assert_eq!(PhoneNumber::from_segment(segment), "+16035551234".parse());
        }
        for segment in ["%2B+16035551234", "%252B16035551234", "%2B", "++16035551234"] {
            assert_eq!(PhoneNumber::from_segment(segment), Err(NotE164));
        }
    }

    #[test]
    fn a_masked_number_shows_four_digits() {
        let number: PhoneNumber = "+16035551234".parse().expect("E.164");
        assert_eq!(number.masked(), "+16*******34");
        assert_eq!(format!("{number:?}"), "+16*******34");
        let shortest: PhoneNumber = "+1234506".parse().expect("E.164");
        assert_eq!(shortest.masked(), "+12***06");
    }

    proptest! {
        #[test]
        fn every_number_survives_being_written_and_read(digits in "[1-9][0-9]{6,14}") {
            let text = format!("+{digits}");
            let number: PhoneNumber = text.parse().expect("E.164");
            prop_assert_eq!(number.to_string(), text);
        }
    }
}
