//! The few things about tar archives that a bundle needs: regular files, in order.

use std::io::{self, Read, Write};

/// Size of headers and of padding.
const BLOCK: usize = 512;
/// Longest name that stands in a header.
const NAME: usize = 100;

/// An archive being written.
pub struct Archive<W: Write> {
    out: W,
    /// Seconds since the Unix epoch, of every file.
    time: u64,
}

impl<W: Write> Archive<W> {
    /// An archive whose files are of that time.
    pub fn new(out: W, time: u64) -> Self {
        Self { out, time }
    }

    /// Adds a file of `size` bytes.
    ///
    /// # Errors
    /// What `out` or `content` says; content that is shorter than `size`.
    pub fn add(&mut self, name: &str, size: u64, content: impl Read) -> io::Result<()> {
        if name.len() > NAME {
            // As GNU tar writes them, and every other tar reads them.
            let mut long = name.as_bytes().to_vec();
            long.push(0);
            self.header("././@LongLink", b'L', long.len() as u64)?;
            self.body(long.len() as u64, &long[..])?;
        }
        let end = name
            .char_indices()
            .map(|(at, _)| at)
            .take_while(|at| *at <= NAME)
            .last();
        let short = if name.len() > NAME {
            name.get(..end.unwrap_or(0)).unwrap_or_default()
        } else {
            name
        };
        self.header(short, b'0', size)?;
        self.body(size, content)
    }

    fn header(&mut self, name: &str, kind: u8, size: u64) -> io::Result<()> {
        let mut block = [0_u8; BLOCK];
        let mut put = |at: usize, bytes: &[u8]| {
            if let Some(place) = block.get_mut(at..at + bytes.len()) {
                place.copy_from_slice(bytes);
            }
        };
        put(0, name.as_bytes());
        put(100, b"0000600\0");
        put(108, b"0000000\0");
        put(116, b"0000000\0");
        put(124, format!("{size:011o}\0").as_bytes());
        put(136, format!("{:011o}\0", self.time).as_bytes());
        put(148, b"        ");
        put(156, &[kind]);
        put(257, b"ustar\x0000");
        let sum: u32 = block.iter().map(|b| u32::from(*b)).sum();
        if let Some(place) = block.get_mut(148..156) {
            place.copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        }
        self.out.write_all(&block)
    }

    fn body(&mut self, size: u64, content: impl Read) -> io::Result<()> {
        let copied = io::copy(&mut content.take(size), &mut self.out)?;
        if copied != size {
            return Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "a file became shorter while it was archived",
            ));
        }
        let rest = usize::try_from(size % BLOCK as u64).unwrap_or(0);
        if rest > 0 {
            self.out.write_all(&vec![0; BLOCK - rest])?;
        }
        Ok(())
    }

    /// Ends the archive.
    ///
    /// # Errors
    /// What `out` says.
    pub fn finish(mut self) -> io::Result<W> {
        self.out.write_all(&[0; BLOCK * 2])?;
        Ok(self.out)
    }
}

/// Name and size in a header; nothing where the archive ends or is none.
fn entry(block: &[u8]) -> Option<(String, u64, u8)> {
    let field = |from: usize, len: usize| {
        let bytes = block.get(from..from + len)?;
        let end = bytes.iter().position(|b| *b == 0).unwrap_or(len);
        std::str::from_utf8(bytes.get(..end)?).ok()
    };
    let name = field(0, NAME)?.to_owned();
    let size = u64::from_str_radix(field(124, 12)?.trim(), 8).ok()?;
    (block.get(257..262)? == b"ustar" && !name.is_empty()).then_some((name, size, *block.get(156)?))
}

/// The content of the first file of that name, which must be a short one.
///
/// # Errors
/// What `archive` says; no such file.
pub fn find<R: Read>(mut archive: R, wanted: &str) -> io::Result<io::Take<R>> {
    let missing = || {
        io::Error::new(
            io::ErrorKind::NotFound,
            format!("no {wanted} in the archive"),
        )
    };
    loop {
        let mut block = [0_u8; BLOCK];
        archive.read_exact(&mut block)?;
        let Some((name, size, kind)) = entry(&block) else {
            return Err(missing());
        };
        if kind == b'0' && name == wanted {
            return Ok(archive.take(size));
        }
        let padded = size
            .checked_next_multiple_of(BLOCK as u64)
            .ok_or_else(missing)?;
        let skipped = io::copy(&mut archive.by_ref().take(padded), &mut io::sink())?;
        if skipped != padded {
            return Err(missing());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_put_in_is_found() {
        let long = format!("b/{}", "é".repeat(90));
        let mut archive = Archive::new(Vec::new(), 1);
        archive.add("b/one", 3, &b"abc"[..]).unwrap();
        archive.add(&long, 600, &[7; 600][..]).unwrap();
        archive.add("b/last", 512, &[9; 512][..]).unwrap();
        let bytes = archive.finish().unwrap();
        assert_eq!(bytes.len() % BLOCK, 0);
        let mut out = Vec::new();
        find(&bytes[..], "b/last")
            .unwrap()
            .read_to_end(&mut out)
            .unwrap();
        assert_eq!(out, [9; 512]);
        assert!(find(&bytes[..], "b/none").is_err());
        assert!(find(&b"no archive"[..], "b/one").is_err());
        let mut short = Archive::new(Vec::new(), 1);
        assert!(short.add("x", 5, &b"abc"[..]).is_err());
    }
}
