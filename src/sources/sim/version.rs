//! Version numbers that decide how a line is worded.

use std::fmt;
use std::str::FromStr;

use serde::Deserialize;

/// Major, minor, patch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
#[serde(try_from = "String")]
pub struct Version(pub u32, pub u32, pub u32);

impl Version {
    /// NCCL's number for itself, 22705 for 2.27.5.
    #[must_use]
    pub fn code(self) -> u32 {
        self.0 * 10_000 + self.1 * 100 + self.2
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.0, self.1, self.2)
    }
}

impl FromStr for Version {
    type Err = String;

    fn from_str(s: &str) -> Result<Self, String> {
        let mut parts = s.split('.').map(str::parse::<u32>);
        match (parts.next(), parts.next(), parts.next(), parts.next()) {
            (Some(Ok(a)), Some(Ok(b)), Some(Ok(c)), None) if a < 100 && b < 100 && c < 100 => {
                Ok(Self(a, b, c))
            }
            _ => Err(format!("{s:?} is no version like 2.27.5")),
        }
    }
}

impl TryFrom<String> for Version {
    type Error = String;

    fn try_from(s: String) -> Result<Self, String> {
        s.parse()
    }
}
