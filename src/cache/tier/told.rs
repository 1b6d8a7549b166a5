//! What is told of the tier, so that somebody counts it.

use std::sync::Arc;

use strum::{IntoStaticStr, VariantArray};

/// What came of asking the server for a copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "snake_case")]
pub enum Asked {
    /// It was there.
    Hit,
    /// It was not, or is not true any more.
    Miss,
    /// What was there cannot be read.
    Damaged,
    /// The server was not asked, or did not answer.
    Away,
}

/// What a gateway does without, since the server cannot be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "snake_case")]
pub enum Degraded {
    /// A copy that the server may have.
    CopyNotAsked,
    /// A copy is not written: the server is away, or its memory half full, or too many wait.
    CopyNotWritten,
    /// Telling others at once what is not true any more.
    ChangeDelayed,
    /// Its copies: nobody knows what it was not told.
    MemoryDistrusted,
}

impl Asked {
    /// All of them.
    pub const ALL: &[Self] = Self::VARIANTS;

    /// The word in metrics.
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

impl Degraded {
    /// All of them.
    pub const ALL: &[Self] = Self::VARIANTS;

    /// The word in metrics.
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

/// What is told of the tier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    /// The server was to be asked for a copy.
    Asked(Asked),
    /// This was done without.
    Degraded(Degraded),
}

/// Told of all that the tier does or does not do.
pub type OnTier = Arc<dyn Fn(Told) + Send + Sync>;
