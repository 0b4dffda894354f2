//! Which files are the rotated parts of one log: told by their names alone.
//!
//! Ranks, pods and runs are numbered, too. So a number is a rotation's only behind the name of a log that is there as
//! well (`x.log`, `x.log.1`, `x.log.2.gz`), and where they are counted as a rotation counts: from 1, without a gap. A
//! date needs the log beside it, too, but for the kubelet's own form (`0.log.20250131-101500`). In doubt files stay
//! apart.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::{Component, Path, PathBuf};

/// How names of packed files end.
pub(super) const PACKED: [&str; 3] = [".gz", ".zst", ".zstd"];

/// How names of logs end that are rotated.
const LOGS: [&str; 6] = ["log", "out", "err", "stdout", "stderr", "jsonl"];

/// Logs that are called so.
const NAMED: [&str; 2] = ["syslog", "messages"];

/// Most digits of a number: what is longer is a process id or a job's.
const NUMBER: usize = 3;

/// What a rotation put behind, or into, the name of its log.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Mark {
    /// `x.log.2`: the higher, the older.
    Number(usize),
    /// `x.log-20250131`: its digits.
    Stamp(String),
}

/// The name of a file as a packer found it.
pub(super) fn unpacked(name: &str) -> &str {
    let bare = PACKED.iter().find_map(|end| name.strip_suffix(end));
    bare.unwrap_or(name)
}

/// The name of the log that a file was called by before a rotation marked it with a time.
pub(super) fn unstamped(name: &str) -> String {
    match marked(name) {
        Some((log, Mark::Stamp(_))) => log,
        _ => name.to_owned(),
    }
}

/// The log that a file is a rotated part of, by the file's name.
fn marked(name: &str) -> Option<(String, Mark)> {
    let name = unpacked(name);
    if let Some((log, number)) = name.rsplit_once('.')
        && number.len() <= NUMBER
        && number.bytes().all(|b| b.is_ascii_digit())
        && is_log(log)
    {
        let counted = number.parse().ok().filter(|_| !number.starts_with('0'));
        // `.0` is nobody's rotation here, and shows that it is none.
        return Some((log.to_owned(), Mark::Number(counted.unwrap_or(0))));
    }
    if let Some((log, stamp)) = stamped(name).filter(|(log, _)| is_log(log)) {
        return Some((log.to_owned(), Mark::Stamp(stamp)));
    }
    // The ending kept behind the time: `x-20250131.log`.
    let (stem, end) = name.rsplit_once('.')?;
    let (log, stamp) = stamped(stem)?;
    let log = format!("{log}.{end}");
    is_log(&log).then_some((log, Mark::Stamp(stamp)))
}

/// A name with a time at its end: what stands before, and the digits of the time.
fn stamped(name: &str) -> Option<(&str, String)> {
    let cuts = name.match_indices(['.', '-', '_']).map(|(at, _)| at);
    cuts.filter(|at| *at > 0).find_map(|at| {
        let (log, rest) = name.split_at(at);
        Some((log, time(rest.get(1..)?)?))
    })
}

/// The digits of a text that begins with a date and goes on with nothing but a time.
fn time(text: &str) -> Option<String> {
    let dashed = text.as_bytes().get(4) == Some(&b'-');
    let shape: &[u8] = if dashed { b"0000-00-00" } else { b"00000000" };
    let mut bytes = text.bytes();
    let dated = shape.iter().all(|want| match bytes.next() {
        Some(b) if *want == b'0' => b.is_ascii_digit(),
        Some(b) => b == *want,
        None => false,
    });
    let timed =
        bytes.all(|b| b.is_ascii_digit() || matches!(b, b'-' | b'_' | b'.' | b':' | b'T' | b'Z'));
    let digits: String = text.chars().filter(char::is_ascii_digit).collect();
    let number = |from: usize, to: usize| digits.get(from..to)?.parse::<u32>().ok();
    let real = (1970..2100).contains(&number(0, 4)?)
        && (1..=12).contains(&number(4, 6)?)
        && (1..=31).contains(&number(6, 8)?);
    (dated && timed && real).then_some(digits)
}

/// Whether a name is that of a log which somebody may rotate.
fn is_log(name: &str) -> bool {
    match name.rsplit_once('.') {
        Some((stem, end)) => !stem.is_empty() && LOGS.contains(&end.to_ascii_lowercase().as_str()),
        None => NAMED.contains(&name),
    }
}

/// `0.log`: what the kubelet calls the log of a container, by how often it was restarted.
pub(super) fn restart(log: &str) -> Option<u32> {
    let number = log.strip_suffix(".log")?;
    let plain = number.bytes().all(|b| b.is_ascii_digit()) && number.len() < 8;
    number.parse().ok().filter(|_| plain)
}

/// Parts that a log might have.
#[derive(Default)]
struct Parts {
    /// By number; of two with one number the one that is not packed.
    numbers: BTreeMap<usize, usize>,
    stamps: BTreeMap<String, usize>,
}

/// The logs that files make up: the files of each, oldest first, as indices into `files`; a file that is nobody's part
/// is a log of its own. In the order of what each log ends with. Nothing stands for what is no file and can't be one.
pub(super) fn logs(files: &[Option<&Path>]) -> Vec<Vec<usize>> {
    let names = files.iter().map(|path| path.and_then(named)).enumerate();
    let names: Vec<(usize, (PathBuf, &str))> = names.filter_map(|(i, n)| Some((i, n?))).collect();
    let whole: BTreeMap<(&Path, &str), usize> = names
        .iter()
        .map(|(i, (folder, name))| ((folder.as_path(), *name), *i))
        .collect();
    let mut parts: BTreeMap<(&Path, String), Parts> = BTreeMap::new();
    for (i, (folder, name)) in &names {
        let Some((log, mark)) = marked(name) else {
            continue;
        };
        let parts = parts.entry((folder, log)).or_default();
        let slot = match mark {
            Mark::Number(n) => parts.numbers.entry(n).or_insert(*i),
            Mark::Stamp(s) => parts.stamps.entry(s).or_insert(*i),
        };
        if unpacked(name) == *name {
            *slot = *i;
        }
    }
    let mut older: Vec<Option<Vec<usize>>> = vec![Some(Vec::new()); files.len()];
    for ((folder, log), parts) in parts {
        let mut line: Vec<usize> = match (parts.numbers.is_empty(), parts.stamps.is_empty()) {
            (true, _) => parts.stamps.into_values().collect(),
            (false, true) if parts.numbers.keys().copied().eq(1..=parts.numbers.len()) => {
                parts.numbers.into_values().rev().collect()
            }
            _ => continue,
        };
        line.extend(whole.get(&(folder, log.as_str())));
        let beside = whole.contains_key(&(folder, log.as_str()));
        let kubelets = restart(&log).is_some();
        // A part that has parts of its own is no part.
        let lone = |i: &usize| {
            older
                .get(*i)
                .is_some_and(|o| o.as_ref().is_some_and(Vec::is_empty))
        };
        if !(beside || kubelets) || !line.iter().all(lone) {
            continue;
        }
        let Some(newest) = line.pop() else { continue };
        for i in &line {
            if let Some(slot) = older.get_mut(*i) {
                *slot = None;
            }
        }
        if let Some(slot) = older.get_mut(newest) {
            *slot = Some(line);
        }
    }
    let logs = older.into_iter().enumerate();
    logs.filter_map(|(i, line)| {
        let mut line = line?;
        line.push(i);
        Some(line)
    })
    .collect()
}

/// The folder of a path and the name in it.
fn named(path: &Path) -> Option<(PathBuf, &str)> {
    let folder = path.parent()?.components();
    let folder = folder.filter(|c| *c != Component::CurDir).collect();
    Some((folder, path.file_name().and_then(OsStr::to_str)?))
}
