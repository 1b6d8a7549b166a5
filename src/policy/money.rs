//! Money: whole micro-dollars, so that no float ever comes near a price.

use std::fmt;
use std::iter::Sum;
use std::ops::{Add, AddAssign, Sub, SubAssign};
use std::str::FromStr;

use serde::de::{self, Deserialize, Deserializer, Visitor};
use serde::{Serialize, Serializer};

/// An amount of US dollars in micro-dollars (1,000,000 = $1.00).
///
/// Negative amounts exist only as corrections. Arithmetic saturates: a sum too large to be true stays too large to pass a budget.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Usd(i64);

/// A text that is no amount of dollars.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an amount of dollars: write it as \"0.10\", with at most 6 decimals and no sign")]
pub struct NotUsd;

impl Usd {
    /// Nothing.
    pub const ZERO: Self = Self(0);

    /// An amount of micro-dollars.
    pub const fn from_micros(micros: i64) -> Self {
        Self(micros)
    }

    /// The amount in micro-dollars.
    pub const fn micros(self) -> i64 {
        self.0
    }

    /// So many times the amount; as much as fits, where it is more than that.
    #[must_use]
    pub fn times(self, count: u64) -> Self {
        Self(self.0.saturating_mul(i64::try_from(count).unwrap_or(i64::MAX)))
    }

    /// The amount in dollars for a metric, the one place where a float is the interface.
    #[allow(clippy::cast_precision_loss)]
    pub fn as_metric(self) -> f64 {
        self.0 as f64 / 1e6
    }
}

impl FromStr for Usd {
    type Err = NotUsd;

    fn from_str(text: &str) -> Result<Self, NotUsd> {
        let (dollars, cents) = text.split_once('.').unwrap_or((text, "0"));
        let digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
        if !digits(dollars) || !digits(cents) || cents.len() > 6 {
            return Err(NotUsd);
        }
        let dollars: i64 = dollars.parse().map_err(|_| NotUsd)?;
        let micros: i64 = format!("{cents:0<6}").parse().map_err(|_| NotUsd)?;
        dollars.checked_mul(1_000_000).and_then(|whole| whole.checked_add(micros)).map(Self).ok_or(NotUsd)
    }
}

/// Two decimals, and as many more as the amount needs: `0.10`, `500.00`, `0.125`.
impl fmt::Display for Usd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.0 < 0 { "-" } else { "" };
        let (dollars, micros) = (self.0.unsigned_abs() / 1_000_000, self.0.unsigned_abs() % 1_000_000);
        let decimals = format!("{micros:06}");
        let kept = decimals.trim_end_matches('0').len().max(2);
        write!(f, "{sign}{dollars}.{}", &decimals[..kept])
    }
}

impl Add for Usd {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

impl Sub for Usd {
    type Output = Self;
    fn sub(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }
}

impl AddAssign for Usd {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

impl SubAssign for Usd {
    fn sub_assign(&mut self, other: Self) {
        *self = *self - other;
    }
}

impl Sum for Usd {
    fn sum<I: Iterator<Item = Self>>(amounts: I) -> Self {
        amounts.fold(Self::ZERO, Add::add)
    }
}

impl Serialize for Usd {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl schemars::JsonSchema for Usd {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Usd".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": ["string", "integer"],
            "description": "an amount of dollars in quotes, such as \"0.10\", with at most 6 decimals; whole dollars may stand without quotes",
        })
    }
}

impl<'de> Deserialize<'de> for Usd {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Amount;
        impl Visitor<'_> for Amount {
            type Value = Usd;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an amount of dollars in quotes, such as \"0.10\"")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Usd, E> {
                text.parse().map_err(E::custom)
            }
            fn visit_i64<E: de::Error>(self, dollars: i64) -> Result<Usd, E> {
                dollars.to_string().parse().map_err(E::custom)
            }
        }
        deserializer.deserialize_any(Amount)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn amounts_are_read_and_written_as_decimals() {
        for (text, micros, shown) in
            [("0.10", 100_000, "0.10"), ("500", 500_000_000, "500.00"), ("0.125", 125_000, "0.125"), ("0.000001", 1, "0.000001")]
        {
            assert_eq!(text.parse(), Ok(Usd::from_micros(micros)));
            assert_eq!(Usd::from_micros(micros).to_string(), shown);
        }
    }

    #[test]
    fn what_is_no_amount_is_refused() {
        for text in ["", ".", "1.", ".5", "-1", "+1", "1e3", "0.0000001", "1,00", "$1", "99999999999999"] {
            assert_eq!(text.parse::<Usd>(), Err(NotUsd), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn every_amount_survives_being_written_and_read(micros in 0..i64::MAX) {
            prop_assert_eq!(Usd::from_micros(micros).to_string().parse(), Ok(Usd::from_micros(micros)));
        }
    }
}
