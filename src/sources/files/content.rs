//! What a stream of bytes is: told by its content, whatever its name says.

use std::io::{self, BufReader, Cursor, Read};

use flate2::bufread::MultiGzDecoder;

use crate::parse::perf;

/// How much is looked at. More than a page, so that a few odd bytes at the start decide nothing.
const SNIFF_BYTES: usize = 8 << 10;

/// Compressed bytes read at once.
const PACKED_BYTES: usize = 256 << 10;

/// Largest zstd window that is accepted, as a power of two: what the `zstd` program accepts unasked. One
/// window stays in memory per open file.
const ZSTD_WINDOW_LOG: u32 = 27;

/// Longest result file of nccl-tests that is read.
pub(super) const RESULTS: u64 = 16 << 20;

/// Why a stream is no log.
#[derive(Debug)]
pub(super) enum Refused {
    /// It looks like this.
    Binary(&'static str),
    /// Reading failed.
    Io(io::Error),
}

impl From<io::Error> for Refused {
    fn from(e: io::Error) -> Self {
        Self::Io(e)
    }
}

/// How long to wait for the first bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Patience {
    /// Until there is enough to judge by, or the end.
    Enough,
    /// The same of a file that is followed from its end on: what is torn there is not complained of yet.
    Followed,
    /// The first bytes that come have to do: the writer may pause for minutes.
    FirstBytes,
}

/// A stream of log text.
pub(super) type Text = Box<dyn Read + Send>;

/// Unpacks what is packed, turns UTF-16 into UTF-8, refuses what is no text. A result file of nccl-tests becomes the
/// lines that nccl-tests would have printed: the environment that it dumps goes no further than here.
pub(super) fn open(raw: impl Read + Send + 'static, patience: Patience) -> Result<Text, Refused> {
    let (first, whole) = peek(raw, patience)?;
    if first.starts_with(b"\x1f\x8b") {
        let packed = BufReader::with_capacity(PACKED_BYTES, whole);
        return plain(MultiGzDecoder::new(packed), patience);
    }
    if first.starts_with(b"\x28\xb5\x2f\xfd") || is_skippable_frame(&first) {
        let packed = BufReader::with_capacity(PACKED_BYTES, whole);
        let mut decoder = zstd::stream::read::Decoder::with_buffer(packed)?;
        decoder.window_log_max(ZSTD_WINDOW_LOG)?;
        return plain(decoder, patience);
    }
    judge(&first, whole, patience)
}

fn plain(raw: impl Read + Send + 'static, patience: Patience) -> Result<Text, Refused> {
    let (first, whole) = peek(raw, patience)?;
    judge(&first, whole, patience)
}

fn judge(
    first: &[u8],
    whole: impl Read + Send + 'static,
    patience: Patience,
) -> Result<Text, Refused> {
    if let Some(little) = match first {
        [0xff, 0xfe, ..] => Some(true),
        [0xfe, 0xff, ..] => Some(false),
        _ => None,
    } {
        return Ok(Box::new(Utf16::new(whole, little)));
    }
    if let Some(what) = binary(first) {
        return Err(Refused::Binary(what));
    }
    if perf::is_file(first) {
        let mut json = Vec::new();
        whole.take(RESULTS).read_to_end(&mut json)?;
        let text = match perf::file(&json) {
            Some(file) => file.text(),
            // Whoever follows it reads it again when the rest is there, and says so where it stays away.
            None if patience == Patience::Followed => String::new(),
            None => "# error: a result file of nccl-tests that is torn or too long\n".to_owned(),
        };
        return Ok(Box::new(Cursor::new(text)));
    }
    if first.starts_with(b"\xef\xbb\xbf") {
        let mut whole = whole;
        whole.read_exact(&mut [0; 3])?;
        return Ok(Box::new(whole));
    }
    Ok(Box::new(whole))
}

/// A stream with the bytes that were looked at in front again.
type Whole<R> = io::Chain<Cursor<Vec<u8>>, R>;

/// The first bytes, and the whole stream.
fn peek<R: Read>(mut raw: R, patience: Patience) -> io::Result<(Vec<u8>, Whole<R>)> {
    let mut first = vec![0; SNIFF_BYTES];
    let mut have = 0;
    // Four bytes tell every format that is unpacked here.
    let want = match patience {
        Patience::Enough | Patience::Followed => SNIFF_BYTES,
        Patience::FirstBytes => 4,
    };
    while have < want {
        match raw.read(first.get_mut(have..).unwrap_or_default()) {
            Ok(0) => break,
            Ok(read) => have += read,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            // What was read before an error is still worth having; the error comes again.
            Err(_) if have > 0 => break,
            Err(e) => return Err(e),
        }
    }
    first.truncate(have);
    Ok((first.clone(), Cursor::new(first).chain(raw)))
}

/// zstd's skippable frames (`pzstd` and seekable archives begin with one).
fn is_skippable_frame(first: &[u8]) -> bool {
    matches!(first, [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..])
}

/// What the bytes look like, if not like text.
///
/// NUL bytes alone prove nothing: a log that was truncated under its writer starts with a hole of them.
fn binary(first: &[u8]) -> Option<&'static str> {
    const MAGIC: &[(&[u8], &str)] = &[
        (b"\x7fELF", "an ELF program or library"),
        (b"PK\x03\x04", "a zip archive: unpack it first"),
        (b"BZh", "bzip2 data: unpack it first"),
        (b"\xfd7zXZ\0", "xz data: unpack it first"),
        (b"\x04\x22\x4d\x18", "lz4 data: unpack it first"),
        (b"\x89PNG", "a picture"),
        (b"\xff\xd8\xff", "a picture"),
        (b"%PDF-", "a PDF"),
        (b"SQLite format 3\0", "a database"),
        (b"\x1f\x8b", "data compressed twice: unpack it first"),
        (
            b"\x28\xb5\x2f\xfd",
            "data compressed twice: unpack it first",
        ),
    ];
    if let Some((_, what)) = MAGIC.iter().find(|(magic, _)| first.starts_with(magic)) {
        return Some(what);
    }
    if first.get(257..262) == Some(b"ustar") {
        return Some("a tar archive: unpack it first");
    }
    // safetensors: the length of a JSON header as eight bytes, then the header.
    if matches!(first, [_, _, _, _, 0, 0, 0, 0, b'{', ..]) {
        return Some("model weights");
    }
    let (mut odd, mut text, mut holes, mut last) = (0usize, 0usize, 0usize, 1u8);
    for &byte in first {
        match byte {
            0 => holes += usize::from(last != 0),
            b'\t' | b'\n' | b'\r' | 0x08 | 0x0b | 0x0c | 0x1b => text += 1,
            1..0x20 | 0x7f => odd += 1,
            _ => text += 1,
        }
        last = byte;
    }
    // A twentieth of control bytes, or NULs as numbers have them: no terminal ever printed
    // that.
    (odd * 20 > odd + text || holes * 10 > first.len()).then_some("binary data")
}

/// UTF-16 with a byte-order mark, as PowerShell writes it, turned into UTF-8.
struct Utf16<R> {
    inner: BufReader<R>,
    little: bool,
    /// First half of a surrogate pair, or a unit that has to be looked at again.
    pending: Option<u16>,
    out: Vec<u8>,
    at: usize,
}

impl<R: Read> Utf16<R> {
    fn new(inner: R, little: bool) -> Self {
        Self {
            inner: BufReader::with_capacity(PACKED_BYTES, inner),
            little,
            pending: None,
            out: Vec::new(),
            at: 0,
        }
    }

    fn unit(&mut self) -> io::Result<Option<u16>> {
        if let Some(unit) = self.pending.take() {
            return Ok(Some(unit));
        }
        let mut pair = [0; 2];
        match self.inner.read_exact(&mut pair) {
            Ok(()) => {}
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
            Err(e) => return Err(e),
        }
        Ok(Some(if self.little {
            u16::from_le_bytes(pair)
        } else {
            u16::from_be_bytes(pair)
        }))
    }

    fn refill(&mut self) -> io::Result<()> {
        self.out.clear();
        self.at = 0;
        while self.out.len() < PACKED_BYTES {
            let Some(unit) = self.unit()? else { break };
            if unit == 0xfeff {
                continue;
            }
            let decoded = match char::from_u32(u32::from(unit)) {
                Some(c) => c,
                None if unit < 0xdc00 => {
                    let low = self.unit()?;
                    match low {
                        Some(low @ 0xdc00..=0xdfff) => {
                            let code = 0x1_0000
                                + ((u32::from(unit) & 0x3ff) << 10)
                                + (u32::from(low) & 0x3ff);
                            char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER)
                        }
                        other => {
                            self.pending = other;
                            char::REPLACEMENT_CHARACTER
                        }
                    }
                }
                None => char::REPLACEMENT_CHARACTER,
            };
            self.out
                .extend_from_slice(decoded.encode_utf8(&mut [0; 4]).as_bytes());
            // A live stream: hand over what is there rather than wait for more.
            if unit == u16::from(b'\n') && self.inner.buffer().len() < 2 {
                break;
            }
        }
        Ok(())
    }
}

impl<R: Read> Read for Utf16<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if self.at == self.out.len() {
            self.refill()?;
        }
        let mut rest = self.out.get(self.at..).unwrap_or_default();
        let read = rest.read(buf)?;
        self.at += read;
        Ok(read)
    }
}
