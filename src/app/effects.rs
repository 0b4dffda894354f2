//! What the model can't do by itself: the clipboard and files.

use std::fs::OpenOptions;
use std::io::{ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Most text that is put on the clipboard: xterm and its heirs take 100,000 bytes of base64, some less; beyond,
/// they drop all of it without a word.
const MOST: usize = 74_994 / 4 * 3;

/// The sequence that puts text on the clipboard of the terminal (OSC 52), also from inside tmux or GNU screen.
pub fn clipboard(text: &str) -> Result<Vec<u8>, String> {
    let set = |name: &str| std::env::var_os(name).is_some_and(|v| !v.is_empty());
    osc52(text, set("TMUX"), set("STY"))
}

fn osc52(text: &str, tmux: bool, screen: bool) -> Result<Vec<u8>, String> {
    if text.len() > MOST {
        return Err(format!(
            "{} bytes are too many for a terminal's clipboard",
            text.len()
        ));
    }
    let plain = format!("\x1b]52;c;{}\x07", base64(text.as_bytes()));
    let mut out = plain.clone().into_bytes();
    if tmux {
        // tmux itself listens where `set-clipboard on`; where it doesn't, `allow-passthrough on` hands this through.
        out.extend_from_slice(format!("\x1bPtmux;\x1b{plain}\x1b\\").as_bytes());
    } else if screen {
        // screen drops strings beyond 768 bytes: in pieces, then.
        out.clear();
        for piece in plain.as_bytes().chunks(256) {
            out.extend_from_slice(b"\x1bP");
            out.extend_from_slice(piece);
            out.extend_from_slice(b"\x1b\\");
        }
    }
    Ok(out)
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let at = |i: usize| u32::from(chunk.get(i).copied().unwrap_or(0));
        let word = at(0) << 16 | at(1) << 8 | at(2);
        for i in 0..4 {
            let digit = DIGITS
                .get((word >> (18 - 6 * i) & 63) as usize)
                .copied()
                .unwrap_or(b'=');
            out.push(char::from(if i > chunk.len() { b'=' } else { digit }));
        }
    }
    out
}

/// Writes a new file; what exists is left alone. Both outcomes are sentences.
pub fn save(path: &Path, text: &str) -> Result<String, String> {
    let name = path.display();
    let made = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path);
    match made.and_then(|mut file| file.write_all(text.as_bytes())) {
        Ok(()) => Ok(format!("saved {name}")),
        Err(e) if e.kind() == ErrorKind::AlreadyExists => {
            Err(format!("{name} exists; nothing was written"))
        }
        Err(e) => Err(format!("{name} can't be written: {e}")),
    }
}

/// Writes into the current folder under the first of `name.ext`, `name-2.ext`, … that is free.
pub fn save_as(name: &str, extension: &str, text: &str) -> Result<String, String> {
    let paths = (1..1_000).map(|n| {
        PathBuf::from(match n {
            1 => format!("{name}.{extension}"),
            n => format!("{name}-{n}.{extension}"),
        })
    });
    let free = paths.into_iter().find(|p| p.symlink_metadata().is_err());
    match free {
        Some(path) => save(&path, text),
        None => Err(format!("there are a thousand files called {name} already")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_that_of_the_rfc() {
        let known = [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foobar", "Zm9vYmFy"),
            ("ÿ", "w78="),
        ];
        for (text, encoded) in known {
            assert_eq!(base64(text.as_bytes()), encoded);
        }
    }

    #[test]
    fn the_clipboard_is_reached_through_tmux_and_screen() {
        assert_eq!(osc52("hi", false, false).unwrap(), b"\x1b]52;c;aGk=\x07");
        let tmux = String::from_utf8(osc52("hi", true, false).unwrap()).unwrap();
        assert!(
            tmux.ends_with("\x1bPtmux;\x1b\x1b]52;c;aGk=\x07\x1b\\"),
            "{tmux:?}"
        );
        let screen = osc52(&"x".repeat(3_000), false, true).unwrap();
        assert!(screen.split(|b| *b == b'\\').all(|piece| piece.len() < 768));
        assert!(osc52(&"x".repeat(100_000), false, false).is_err());
    }

    #[test]
    fn a_file_that_exists_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("screen.txt");
        assert!(save(&path, "one").is_ok());
        assert!(save(&path, "two").is_err_and(|e| e.contains("exists")));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "one");
    }
}
