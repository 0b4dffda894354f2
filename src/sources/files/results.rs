//! Result files of nccl-tests among files that are followed: told as lines once they are whole, as reading from the
//! start tells them. Their bytes never are: the environment that they dump goes no further than here.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::time::SystemTime;

use super::content::RESULTS;
use crate::parse::perf;

/// How much tells the form of a file.
const HEAD: u64 = 8 << 10;
/// Looks at a file that may become a result file, before it is taken for a log; and at one that is torn, before that
/// is said.
const LOOKS: u8 = 8;

/// What a followed file is.
#[derive(Debug)]
pub(super) enum Form {
    /// Not known yet, after so many looks: it is empty, or too short to tell.
    Open(u8),
    /// Lines.
    Log,
    /// A result file.
    Results(Results),
}

/// A result file, as far as it was read.
#[derive(Debug, Default)]
pub(super) struct Results {
    /// Length and time of the last look.
    seen: Option<(u64, SystemTime)>,
    /// What was told of it.
    told: Option<String>,
    /// It was torn when it last changed, so many looks ago.
    torn: Option<u8>,
}

/// What a look at a result file came to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Look {
    /// Nothing new.
    Same,
    /// It stays torn, or is longer than is read: said once, after a time in which its writer could have gone on.
    Torn,
    /// Lines that were not told yet.
    Told(String),
    /// It is none any more.
    Other,
}

impl Form {
    /// The form of a file of which so many bytes were told already.
    pub(super) fn resume(file: &File, told: u64) -> io::Result<Self> {
        if told == 0 {
            return Ok(Self::Open(0));
        }
        if !perf::is_file(&from_start(file, HEAD)?) {
            return Ok(Self::Log);
        }
        let mut results = Results::default();
        if file.metadata()?.len() == told {
            results.told = perf::file(&from_start(file, RESULTS)?).map(|f| f.text());
        }
        Ok(Self::Results(results))
    }

    /// Judges a file of which nothing was read; whoever waits `no` longer takes what can't be told yet for a log.
    pub(super) fn judge(&mut self, file: &File, no: bool) -> io::Result<()> {
        let Self::Open(looks) = *self else {
            return Ok(());
        };
        let head = from_start(file, HEAD)?;
        *self = if perf::is_file(&head) {
            Self::Results(Results::default())
        } else if head.is_empty() {
            Self::Open(0)
        } else if may_become(&head) && looks < LOOKS && !no {
            Self::Open(looks + 1)
        } else {
            Self::Log
        };
        Ok(())
    }
}

impl Results {
    /// Reads the file, if it has changed; whoever waits `no` longer says at once that it is torn.
    pub(super) fn look(&mut self, file: &File, no: bool) -> io::Result<Look> {
        let meta = file.metadata()?;
        let now = (meta.len(), meta.modified()?);
        if self.seen.replace(now) == Some(now) {
            return Ok(self.wait(no));
        }
        let json = from_start(file, RESULTS)?;
        self.torn = None;
        Ok(match perf::file(&json).map(|f| f.text()) {
            Some(text) if self.told.as_ref() == Some(&text) => Look::Same,
            Some(text) => {
                self.told = Some(text.clone());
                Look::Told(text)
            }
            None if perf::is_file(&json) => {
                self.torn = Some(0);
                self.wait(no)
            }
            None => Look::Other,
        })
    }

    /// Another look at a file that has not changed.
    fn wait(&mut self, no: bool) -> Look {
        match self.torn {
            Some(looks) if looks < LOOKS && !no => {
                self.torn = Some(looks + 1);
                Look::Same
            }
            Some(_) => {
                self.torn = None;
                Look::Torn
            }
            None => Look::Same,
        }
    }
}

/// The beginning of a file; it stands at its start before and after.
fn from_start(mut file: &File, most: u64) -> io::Result<Vec<u8>> {
    file.seek(SeekFrom::Start(0))?;
    let mut text = Vec::new();
    file.take(most).read_to_end(&mut text)?;
    file.seek(SeekFrom::Start(0))?;
    Ok(text)
}

/// The first bytes of a result file, or fewer.
fn may_become(head: &[u8]) -> bool {
    const FIRST: &[u8] = b"\"version\"";
    let Some(rest) = head.trim_ascii_start().strip_prefix(b"{") else {
        return head.trim_ascii_start().is_empty();
    };
    let rest = rest.trim_ascii_start();
    let n = rest.len().min(FIRST.len());
    rest.get(..n) == FIRST.get(..n)
}
