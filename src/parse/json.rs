//! Lines that a log shipper wrapped into a JSON object: docker's json-file, Loki, cloud loggers.

/// The text of a shipper's record.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Wrapped<'a> {
    /// The line, escapes decoded.
    pub(super) line: Vec<u8>,
    /// Its stamp as written.
    pub(super) stamp: Vec<u8>,
    /// Whose line it is.
    pub(super) place: Place<'a>,
}

/// The pod and the container that a shipper names beside the line.
#[derive(Debug, Default, Clone, Copy, PartialEq)]
pub(super) struct Place<'a> {
    pub(super) pod: Option<&'a [u8]>,
    pub(super) container: Option<&'a [u8]>,
}

/// Keys under which shippers put what they know of the place: fluent-bit and vector, Loki, cloud loggers.
const PLACES: [&[u8]; 6] = [
    b"kubernetes",
    b"labels",
    b"resource",
    b"stream",
    b"pod",
    b"container",
];
/// Objects in objects in which a place is looked for.
const DEEP: u8 = 4;

/// Keys under which shippers put the line itself.
const TEXT: [&[u8]; 6] = [
    b"log",
    b"message",
    b"msg",
    b"line",
    b"MESSAGE",
    b"textPayload",
];
/// Keys that only a shipper (or a logger) writes beside it.
const OWN: [&[u8]; 16] = [
    b"stream",
    b"time",
    b"timestamp",
    b"ts",
    b"@timestamp",
    b"kubernetes",
    b"labels",
    b"docker",
    b"attrs",
    b"tag",
    b"container_name",
    b"insertId",
    b"_p",
    b"resource",
    b"logtag",
    b"fields",
];
/// Keys of the bodies that an application serves; their texts may quote anything.
const BODY: [&[u8]; 8] = [
    b"role",
    b"messages",
    b"model",
    b"prompt",
    b"choices",
    b"object",
    b"usage",
    b"delta",
];

/// Decodes a shipper's object; `None` for any other JSON, and for what is no JSON.
pub(super) fn unwrap(s: &[u8]) -> Option<Wrapped<'_>> {
    let s = s.trim_ascii();
    if !s.starts_with(b"{") || !s.ends_with(b"}") {
        return None;
    }
    let mut p = Json(s.get(1..)?);
    let mut line = None;
    let mut stamp = None;
    let mut own = false;
    let mut place = Place::default();
    loop {
        p.blanks();
        let key = p.string()?;
        p.blanks();
        p.byte(b':')?;
        p.blanks();
        if BODY.contains(&key) {
            return None;
        }
        own |= OWN.contains(&key) || key.starts_with(b"kubernetes.");
        if p.0.first() == Some(&b'"') {
            let value = p.string()?;
            if TEXT.contains(&key) {
                line = Some(value);
            } else if matches!(key, b"time" | b"timestamp" | b"ts" | b"@timestamp") {
                stamp = Some(value);
            } else {
                place.named(key, value);
            }
        } else if p.0.first() == Some(&b'{') && PLACES.contains(&key) {
            p.place(key, &mut place, DEEP)?;
        } else {
            p.skip()?;
        }
        p.blanks();
        match p.0.split_first()? {
            (b',', rest) => p.0 = rest,
            (b'}', _) => break,
            _ => return None,
        }
    }
    let line = line.filter(|_| own)?;
    let mut out = decode(line);
    while out.last().is_some_and(|b| matches!(b, b'\n' | b'\r')) {
        out.pop();
    }
    Some(Wrapped {
        line: out,
        stamp: stamp.map(decode).unwrap_or_default(),
        place,
    })
}

impl<'a> Place<'a> {
    /// A value that names the pod or the container, if it is a name.
    fn named(&mut self, key: &[u8], value: &'a [u8]) {
        let key = key.strip_prefix(b"kubernetes.").unwrap_or(key);
        let slot = match key {
            b"pod_name" | b"pod" | b"pod.name" => &mut self.pod,
            b"container_name" | b"container" | b"container.name" => &mut self.container,
            _ => return,
        };
        let is_name = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_');
        if (1..=253).contains(&value.len()) && value.iter().all(is_name) {
            slot.get_or_insert(value);
        }
    }

    /// What kubectl would put in front of the line; nothing where no pod is named.
    pub(super) fn prefix(&self, out: &mut Vec<u8>) {
        let Some(pod) = self.pod else { return };
        out.extend_from_slice(b"[pod/");
        out.extend_from_slice(pod);
        if let Some(container) = self.container {
            out.push(b'/');
            out.extend_from_slice(container);
        }
        out.extend_from_slice(b"] ");
    }
}

struct Json<'a>(&'a [u8]);

impl<'a> Json<'a> {
    fn blanks(&mut self) {
        self.0 = self.0.trim_ascii_start();
    }

    fn byte(&mut self, b: u8) -> Option<()> {
        self.0 = self.0.strip_prefix(&[b])?;
        Some(())
    }

    /// A string, still escaped.
    fn string(&mut self) -> Option<&'a [u8]> {
        self.byte(b'"')?;
        let mut from = 0;
        loop {
            let at = from + memchr::memchr2(b'"', b'\\', self.0.get(from..)?)?;
            if self.0.get(at) == Some(&b'\\') {
                from = at + 2;
                continue;
            }
            let inside = self.0.get(..at)?;
            self.0 = self.0.get(at + 1..)?;
            return Some(inside);
        }
    }

    /// An object that says where a line comes from; `of`: the key that it stands under.
    fn place(&mut self, of: &[u8], place: &mut Place<'a>, deep: u8) -> Option<()> {
        self.byte(b'{')?;
        loop {
            self.blanks();
            if let Some(rest) = self.0.strip_prefix(b"}") {
                self.0 = rest;
                return Some(());
            }
            let key = self.string()?;
            self.blanks();
            self.byte(b':')?;
            self.blanks();
            match self.0.first()? {
                b'"' => {
                    let value = self.string()?;
                    // `pod: {name: …}`
                    place.named(if key == b"name" { of } else { key }, value);
                }
                b'{' if deep > 0 && PLACES.contains(&key) => self.place(key, place, deep - 1)?,
                _ => self.skip()?,
            }
            self.blanks();
            if let Some(rest) = self.0.strip_prefix(b",") {
                self.0 = rest;
            }
        }
    }

    /// Any value that is not a string; nested ones by counting brackets.
    fn skip(&mut self) -> Option<()> {
        let mut depth = 0_usize;
        loop {
            match self.0.first()? {
                b'"' => {
                    self.string()?;
                    continue;
                }
                b'{' | b'[' => depth += 1,
                b'}' | b']' if depth == 0 => return Some(()),
                b'}' | b']' => depth -= 1,
                b',' if depth == 0 => return Some(()),
                _ => {}
            }
            self.0 = self.0.get(1..)?;
        }
    }
}

fn decode(s: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(s.len());
    let mut s = s;
    while let Some(at) = memchr::memchr(b'\\', s) {
        out.extend_from_slice(s.get(..at).unwrap_or_default());
        let escape = s.get(at + 1).copied();
        s = s.get(at + 2..).unwrap_or_default();
        match escape {
            Some(b'n') => out.push(b'\n'),
            Some(b'r') => out.push(b'\r'),
            Some(b't') => out.push(b'\t'),
            Some(b'b') => out.push(8),
            Some(b'f') => out.push(12),
            Some(b'u') => {
                let mut code = unit(s).unwrap_or(0xfffd);
                s = s.get(4..).unwrap_or_default();
                if (0xd800..0xdc00).contains(&code)
                    && let Some(low) = s
                        .strip_prefix(b"\\u")
                        .and_then(unit)
                        .filter(|l| (0xdc00..0xe000).contains(l))
                {
                    code = 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00);
                    s = s.get(6..).unwrap_or_default();
                }
                let c = char::from_u32(code).unwrap_or('\u{fffd}');
                out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
            }
            Some(other) => out.push(other),
            None => {}
        }
    }
    out.extend_from_slice(s);
    out
}

fn unit(s: &[u8]) -> Option<u32> {
    let four = std::str::from_utf8(s.get(..4)?).ok()?;
    u32::from_str_radix(four, 16).ok()
}
