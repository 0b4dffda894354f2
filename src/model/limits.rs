//! How long each stage of a start-up may be silent before somebody is suspected (`reference/vllm.md` section 2).

use std::collections::BTreeMap;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The longest silence that may be allowed, seconds: a day.
const LONGEST: u32 = 86_400;

/// What may be waited for, as the configuration spells it, and how long by default, seconds.
pub const WAITS: [(&str, u32); 11] = [
    // A quiet wait up to the ready time-out is normal.
    ("started", 600),
    // The interval between its lines doubles up to 640 s.
    ("ray", 1300),
    ("config", 120),
    ("distributed-init", 60),
    ("nccl-init", 90),
    ("download", 120),
    ("weights", 120),
    ("profile", 120),
    // Cold, a compile takes three minutes and prints nothing on the way.
    ("compile", 300),
    ("graphs", 120),
    // Since the first rank of a communicator has begun: then the absence of others is an error.
    ("missing-ranks", 90),
];

/// What differs from the defaults, seconds by name.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Limits(BTreeMap<String, u32>);

impl Limits {
    /// Seconds that a wait may last; a name that is none has no end.
    #[must_use]
    pub fn seconds(&self, wait: &str) -> u32 {
        let usual = || WAITS.iter().find(|(name, _)| *name == wait);
        let said = self.0.get(wait).copied();
        said.or_else(|| usual().map(|(_, n)| *n))
            .unwrap_or(u32::MAX)
    }

    /// All of them have their defaults.
    #[must_use]
    pub fn usual(&self) -> bool {
        self.0.is_empty()
    }

    /// What a value must be to be one.
    ///
    /// # Errors
    /// What it must be.
    pub fn check(value: &str) -> Result<u32, String> {
        let n = value.parse().ok().filter(|n| (1..=LONGEST).contains(n));
        n.ok_or_else(|| format!("whole seconds from 1 to {LONGEST}"))
    }
}

impl FromStr for Limits {
    type Err = String;

    /// Reads `weights=900,compile=600`.
    fn from_str(text: &str) -> Result<Self, String> {
        let mut out = BTreeMap::new();
        for part in text.split(',').map(str::trim).filter(|p| !p.is_empty()) {
            let (name, value) = part
                .split_once('=')
                .ok_or("pairs of a stage and its seconds, for instance weights=900,compile=600")?;
            let known = WAITS.iter().find(|(n, _)| *n == name.trim());
            let Some((name, usual)) = known else {
                let names: Vec<&str> = WAITS.iter().map(|(n, _)| *n).collect();
                return Err(format!("no stage {name}: {}", names.join(", ")));
            };
            let n = Self::check(value.trim()).map_err(|e| format!("{name}: {e}"))?;
            if n != *usual {
                out.insert((*name).to_owned(), n);
            }
        }
        Ok(Self(out))
    }
}
