//! The model's folder: which files are there, whether they fit their index, and who may read them.

use std::collections::{BTreeMap, BTreeSet};

use super::rows;

/// Values of a configuration that are kept.
const KEYS: usize = 64;

/// Head of a safetensors file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// Length of the head, bytes.
    pub length: u64,
    /// Where the last tensor ends behind the head; nothing where nobody could read it.
    pub end: Option<u64>,
    /// The head is no table of tensors.
    pub bad: bool,
}

/// A model's folder.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Model {
    /// Where it was found.
    pub at: Option<String>,
    /// Not there: where it was looked for, and why.
    pub absent: Option<(String, String)>,
    /// Files and their sizes.
    pub files: BTreeMap<String, u64>,
    /// Files that the index names.
    pub shards: BTreeSet<String>,
    /// Bytes of all tensors, as the index says; the largest of several indexes.
    pub total: Option<u64>,
    /// What of its configuration tells how much the weights weigh.
    pub config: BTreeMap<String, String>,
    /// Heads by file.
    pub heads: BTreeMap<String, Head>,
    /// Links that lead nowhere.
    pub broken: Vec<String>,
    /// Downloads that did not end.
    pub incomplete: Vec<String>,
    /// Pointers of git-lfs in place of files.
    pub pointers: Vec<String>,
    /// JSON that can't be read: file and why.
    pub bad_json: Vec<(String, String)>,
    /// Not readable: file and why.
    pub denied: Vec<(String, String)>,
    /// Files beyond what was listed.
    pub more: u64,
}

impl Model {
    pub(super) fn read(out: &str) -> Self {
        let mut v = Self::default();
        for (word, row) in rows(out) {
            let name = row.text(0);
            match word.as_str() {
                "at" => v.at = row.get(0).map(str::to_owned),
                "absent" => v.absent = Some((name, row.text(1))),
                "file" => v.files.extend(row.num(0).map(|n| (row.text(1), n))),
                "shard" => drop(v.shards.insert(name)),
                "total" => v.total = row.num(0).map(|n: u64| v.total.unwrap_or(0).max(n)),
                // What the outer part says goes before what a part inside it says.
                "config" if v.config.len() < KEYS => {
                    v.config.entry(name).or_insert_with(|| row.text(1));
                }
                "head" => {
                    if let Some(length) = row.num(1) {
                        let head = Head {
                            length,
                            end: row.num(2),
                            bad: row.get(2) == Some("bad"),
                        };
                        v.heads.insert(name, head);
                    }
                }
                "broken" => v.broken.push(name),
                "incomplete" => v.incomplete.push(name),
                "pointer" => v.pointers.push(name),
                "badjson" => v.bad_json.push((name, row.text(1))),
                "denied" => v.denied.push((name, row.text(1))),
                "more" => v.more = row.num(0).unwrap_or(0),
                _ => {}
            }
        }
        v
    }
}

/// A folder on the way to the model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// Path.
    pub path: String,
    /// `uid gid mode`.
    pub mode: String,
    /// What we may: `r`, `w`, `x`.
    pub may: String,
}

/// A folder that vLLM writes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cache {
    /// `HOME`, `HF_HOME`, `VLLM_CACHE_ROOT`, `TMPDIR`, `/dev/shm`.
    pub name: String,
    /// Its path.
    pub path: String,
    /// It, or the nearest folder that exists, can be written; nothing where it is not set.
    pub writable: Option<bool>,
}

/// Who we are and what we may.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Access {
    /// User, group, all groups, name.
    pub id: Option<[String; 4]>,
    /// From the model up to the root.
    pub steps: Vec<Step>,
    /// Paths on the way that are not there.
    pub absent: Vec<String>,
    /// Files of the model that can't be read: name and `uid gid mode`.
    pub denied: Vec<(String, String)>,
    /// Folders that are written to.
    pub caches: Vec<Cache>,
}

impl Access {
    pub(super) fn read(out: &str) -> Self {
        let mut v = Self::default();
        for (word, row) in rows(out) {
            match word.as_str() {
                "id" => v.id = Some([row.text(0), row.text(1), row.text(2), row.text(3)]),
                "at" => v.steps.push(Step {
                    mode: row.text(0),
                    may: row.text(1),
                    path: row.text(2),
                }),
                "absent" => v.absent.push(row.text(0)),
                "denied" => v.denied.push((row.text(1), row.text(0))),
                "cache" => v.caches.push(Cache {
                    name: row.text(0),
                    path: row.text(2),
                    writable: match row.get(1) {
                        Some("yes") => Some(true),
                        Some("no") => Some(false),
                        _ => None,
                    },
                }),
                _ => {}
            }
        }
        v
    }
}
