//! Quantities as people write them in a configuration: `"90s"`, `"256MiB"`, `"50/s"`, `0.1`.

use std::fmt;
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher, Hash};
use std::marker::PhantomData;
use std::num::NonZeroU32;
use std::str::FromStr;
use std::time::Duration;

use jiff::SignedDuration;
use jiff::fmt::friendly::{Designator, Spacing, SpanPrinter};
use serde::de::{self, Deserializer, IntoDeserializer};
use serde::{Deserialize, Serialize};

/// A length of time: `"250ms"`, `"90s"`, `"1h30m"`, `"7d"` (a day is 24 hours).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span(pub Duration);

/// A number of bytes: `"512"`, `"64KiB"`, `"256MiB"`, `"2GiB"`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct ByteSize(pub usize);

const DAY: Duration = Duration::from_hours(24);

/// `span`, shortened by up to the fraction `by` of itself, as `key` alone decides: reproducible, and no two keys alike.
pub fn spread(span: Duration, by: f64, key: &impl Hash) -> Duration {
    let hash = BuildHasherDefault::<DefaultHasher>::default().hash_one(key);
    #[allow(clippy::cast_precision_loss, reason = "the spread need not be exact")]
    let part = hash as f64 / u64::MAX as f64;
    span.mul_f64(1.0 - by * part)
}

/// How often something may happen: `"10/s"`, `"60/min"`, `"1000/h"`. As many may come at once as one period allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Events in a period.
    pub count: NonZeroU32,
    /// The period.
    pub per: Period,
}

impl Rate {
    /// More in a period than this has no meaning here, and would make the pace a fraction of a nanosecond.
    const MOST: NonZeroU32 = NonZeroU32::new(1_000_000).expect("not zero");

    /// One part in `parts` of it, and no less than one event in a period.
    #[must_use]
    pub fn part(self, parts: NonZeroU32) -> Self {
        Self { count: NonZeroU32::new(self.count.get() / parts).unwrap_or(NonZeroU32::MIN), ..self }
    }
}

/// The period of a [`Rate`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Period {
    /// `s`
    Second,
    /// `min`
    Minute,
    /// `h`
    Hour,
}

impl Period {
    const ALL: [(Self, &str, Duration); 3] = [
        (Self::Second, "s", Duration::from_secs(1)),
        (Self::Minute, "min", Duration::from_mins(1)),
        (Self::Hour, "h", Duration::from_hours(1)),
    ];

    fn row(self) -> (Self, &'static str, Duration) {
        Self::ALL[self as usize]
    }

    /// Its length.
    pub fn length(self) -> Duration {
        self.row().2
    }
}

/// A text that is not the quantity it should be; shows how to write one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not {wanted}")]
pub struct NotAQuantity {
    text: String,
    wanted: &'static str,
}

impl FromStr for Span {
    type Err = NotAQuantity;

    fn from_str(text: &str) -> Result<Self, NotAQuantity> {
        let wrong = || NotAQuantity { text: text.to_owned(), wanted: "a length of time, such as \"90s\", \"10m\", \"1h30m\" or \"7d\"" };
        // jiff has no days in a SignedDuration, since a civil day may be longer; here it is 24 hours.
        let (days, rest) = match text.split_once('d') {
            Some((days, rest)) => (days.trim().parse::<u32>().map_err(|_| wrong())?, rest.trim()),
            None => (0, text),
        };
        let rest = if rest.is_empty() && days > 0 { SignedDuration::ZERO } else { rest.parse().map_err(|_| wrong())? };
        let rest = Duration::try_from(rest).map_err(|_| wrong())?;
        Ok(Self(DAY * days + rest))
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let days = self.0.as_secs() / DAY.as_secs();
        let rest = Duration::new(self.0.as_secs() % DAY.as_secs(), self.0.subsec_nanos());
        if days > 0 {
            write!(f, "{days}d")?;
        }
        if days == 0 || !rest.is_zero() {
            let printer = SpanPrinter::new().designator(Designator::Compact).spacing(Spacing::None);
            f.write_str(&printer.unsigned_duration_to_string(&rest))?;
        }
        Ok(())
    }
}

impl ByteSize {
    const UNITS: [(&str, usize); 4] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("", 1)];
}

impl FromStr for ByteSize {
    type Err = NotAQuantity;

    fn from_str(text: &str) -> Result<Self, NotAQuantity> {
        let wrong =
            || NotAQuantity { text: text.to_owned(), wanted: "a number of bytes, such as \"512\", \"64KiB\", \"256MiB\" or \"2GiB\"" };
        let (digits, size) =
            Self::UNITS.iter().find_map(|(unit, size)| text.strip_suffix(unit).map(|digits| (digits, size))).ok_or_else(wrong)?;
        let count: usize = digits.trim().parse().map_err(|_| wrong())?;
        count.checked_mul(*size).map(Self).ok_or_else(wrong)
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let whole = |size: &usize| self.0 >= *size && self.0.is_multiple_of(*size);
        let (unit, size) = Self::UNITS.iter().find(|(_, size)| whole(size)).unwrap_or(&("", 1));
        write!(f, "{}{unit}", self.0 / size)
    }
}

impl FromStr for Rate {
    type Err = NotAQuantity;

    fn from_str(text: &str) -> Result<Self, NotAQuantity> {
        let wrong =
            || NotAQuantity { text: text.to_owned(), wanted: "a rate from 1 to 1000000, such as \"10/s\", \"60/min\" or \"1000/h\"" };
        let (count, period) = text.split_once('/').ok_or_else(wrong)?;
        let count: NonZeroU32 = count.trim().parse().map_err(|_| wrong())?;
        if count > Self::MOST {
            return Err(wrong());
        }
        let per = Period::ALL.iter().find(|(_, name, _)| *name == period.trim()).ok_or_else(wrong)?.0;
        Ok(Self { count, per })
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.count, self.per.row().1)
    }
}

/// Written and read by serde as the text that [`fmt::Display`] and [`FromStr`] agree on.
macro_rules! as_text {
    ($($type:ty: $wanted:literal),*) => {$(
        impl ::serde::Serialize for $type {
            fn serialize<S: ::serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> ::serde::Deserialize<'de> for $type {
            fn deserialize<D: ::serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Text;
                impl ::serde::de::Visitor<'_> for Text {
                    type Value = $type;
                    fn expecting(&self, f: &mut ::std::fmt::Formatter<'_>) -> ::std::fmt::Result {
                        f.write_str($wanted)
                    }
                    fn visit_str<E: ::serde::de::Error>(self, text: &str) -> Result<$type, E> {
                        text.parse().map_err(E::custom)
                    }
                }
                deserializer.deserialize_str(Text)
            }
        }

        impl ::schemars::JsonSchema for $type {
            fn schema_name() -> ::std::borrow::Cow<'static, str> {
                ::std::stringify!($type).into()
            }
            fn json_schema(_: &mut ::schemars::SchemaGenerator) -> ::schemars::Schema {
                ::schemars::json_schema!({ "type": "string", "description": $wanted })
            }
        }
    )*};
}
pub(crate) use as_text;

as_text! {
    Span: "a length of time in quotes, such as \"90s\"",
    ByteSize: "a number of bytes in quotes, such as \"256MiB\"",
    Rate: "a rate in quotes, such as \"10/s\""
}

/// A number from 0 to 1.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Number")]
pub struct Fraction(pub f64);

/// A number, or the text of one: a value from the environment is a text unless it is whole.
#[derive(Deserialize)]
#[serde(untagged, expecting = "expected a number from 0.0 to 1.0")]
enum Number {
    Value(f64),
    Text(String),
}

impl schemars::JsonSchema for Fraction {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Fraction".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "number", "minimum": 0, "maximum": 1, "description": "a number from 0.0 to 1.0" })
    }
}

impl TryFrom<Number> for Fraction {
    type Error = &'static str;

    fn try_from(number: Number) -> Result<Self, Self::Error> {
        let value = match number {
            Number::Value(value) => Some(value),
            Number::Text(text) => text.parse().ok(),
        };
        value.filter(|value| (0.0..=1.0).contains(value)).map(Self).ok_or("expected a number from 0.0 to 1.0")
    }
}

/// One value, or a list of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, schemars::JsonSchema)]
#[serde(untagged)]
#[schemars(inline)]
pub enum OneOrMany<T> {
    /// One.
    One(T),
    /// Several.
    Many(Vec<T>),
}

impl<T> OneOrMany<T> {
    /// All of them.
    pub fn as_slice(&self) -> &[T] {
        match self {
            Self::One(value) => std::slice::from_ref(value),
            Self::Many(values) => values,
        }
    }
}

/// Not derived: an untagged enum would hide what is wrong with the one value.
impl<'de, T: Deserialize<'de>> Deserialize<'de> for OneOrMany<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TextOrList<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> de::Visitor<'de> for TextOrList<T> {
            type Value = OneOrMany<T>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text or a list of texts")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
                T::deserialize(text.into_deserializer()).map(OneOrMany::One)
            }
            fn visit_seq<A: de::SeqAccess<'de>>(self, list: A) -> Result<Self::Value, A::Error> {
                Vec::deserialize(de::value::SeqAccessDeserializer::new(list)).map(OneOrMany::Many)
            }
        }
        deserializer.deserialize_any(TextOrList(PhantomData))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_are_written_as_they_are_read() {
        for text in ["250ms", "90s", "1m30s", "1h", "7d", "1d12h", "0s"] {
            let span: Span = text.parse().expect(text);
            assert_eq!(span.to_string().parse(), Ok(span), "{text} became {span}");
        }
        for (text, bytes) in [("512", 512), ("64KiB", 65_536), ("256MiB", 268_435_456), ("2GiB", 2_147_483_648)] {
            let size: ByteSize = text.parse().expect(text);
            assert_eq!((size.0, size.to_string().as_str()), (bytes, text));
        }
        for text in ["10/s", "60/min", "1000/h"] {
            assert_eq!(text.parse::<Rate>().expect(text).to_string(), text);
        }
    }

    #[test]
    fn what_is_no_quantity_is_refused_with_an_example() {
        for text in ["", "1", "abc", "-1s", "1x", "d"] {
            assert!(text.parse::<Span>().is_err(), "{text:?}");
        }
        for text in ["", "1KB", "-1", "1.5MiB", "99999999999GiB"] {
            assert!(text.parse::<ByteSize>().is_err(), "{text:?}");
        }
        for text in ["", "10", "0/s", "10/day", "-1/s", "1000001/s"] {
            assert!(text.parse::<Rate>().is_err(), "{text:?}");
        }
        let error = "soon".parse::<Span>().expect_err("no length of time");
        assert_eq!(error.to_string(), r#""soon" is not a length of time, such as "90s", "10m", "1h30m" or "7d""#);
    }
}
