//! A cursor over bytes: a step either fits or says no. Nothing is copied, nothing panics.

/// Stands for what is no digit.
const NO_HEX: u8 = 0xff;

/// The values of hexadecimal digits.
const HEX: [u8; 256] = {
    let mut values = [NO_HEX; 256];
    let mut digit = 0;
    while digit < 16 {
        values[b"0123456789abcdef"[digit] as usize] = digit as u8;
        values[b"0123456789ABCDEF"[digit] as usize] = digit as u8;
        digit += 1;
    }
    values
};

const ONES: u64 = 0x0101_0101_0101_0101;

/// The high bit of each byte that is no decimal digit.
#[inline]
pub(super) fn no_digits(word: u64) -> u64 {
    let x = word ^ (ONES * 0x30);
    (((x & (ONES * 0x7f)) + ONES * 0x76) | x) & (ONES * 0x80)
}

/// The value of eight bytes that are decimal digits: two by two, four by four, all at once.
#[inline]
pub(super) fn eight_digits(word: u64) -> u64 {
    let digits = word & (ONES * 0x0f);
    let pairs = digits.wrapping_mul(10).wrapping_add(digits >> 8);
    let low = (pairs & 0x0000_00ff_0000_00ff).wrapping_mul(0x000f_4240_0000_0064);
    let high = ((pairs >> 16) & 0x0000_00ff_0000_00ff).wrapping_mul(0x0000_2710_0000_0001);
    low.wrapping_add(high) >> 32
}

/// The decimal number at the start of eight bytes, and how many digits it has; 8: it may go on.
#[inline]
pub(super) fn small(bytes: [u8; 8]) -> (u64, usize) {
    let word = u64::from_le_bytes(bytes);
    let digits = no_digits(word).trailing_zeros() / 8;
    // Nothing in front of the digits counts as noughts.
    let right = word.checked_shl(64 - digits * 8).unwrap_or(0);
    (eight_digits(right), digits as usize)
}

/// The hexadecimal number at the start of eight bytes, and how many digits it has; 8: it may go on.
#[inline]
fn small_hex(bytes: [u8; 8]) -> (u64, usize) {
    let word = u64::from_le_bytes(bytes);
    let letter = (word >> 6) & ONES;
    // Capitals made small. Controls would become digits, but lack the bit.
    let x = (word | (ONES * 0x20)) & (ONES * 0x7f);
    // The high bit of each byte tells that it is at least so much.
    let least = |n: u64| x + ONES * (0x80 - n);
    let digit = least(0x30) & !least(0x3a) & (word << 2);
    let alpha = least(0x61) & !least(0x67);
    let other = !(digit | alpha) | word;
    let digits = (other & (ONES * 0x80)).trailing_zeros() / 8;
    let nibbles = (word & (ONES * 0x0f)) + letter * 9;
    // Nothing in front of the digits counts as noughts.
    let right = nibbles
        .checked_shl(64 - digits * 8)
        .unwrap_or(0)
        .swap_bytes();
    let pairs = (right | (right >> 4)) & 0x00ff_00ff_00ff_00ff;
    let fours = (pairs | (pairs >> 8)) & 0x0000_ffff_0000_ffff;
    ((fours | (fours >> 16)) & 0xffff_ffff, digits as usize)
}

/// Whether no blank and no control is among these, which are looked at in two words.
#[inline]
pub(super) fn no_blanks<const N: usize>(bytes: &[u8; N]) -> bool {
    const { assert!(N >= 8 && N <= 16) };
    let none = |word: Option<&[u8; 8]>| {
        word.is_some_and(|word| {
            let x = u64::from_le_bytes(*word);
            x.wrapping_sub(ONES * 0x21) & !x & (ONES * 0x80) == 0
        })
    };
    none(bytes.first_chunk()) && none(bytes.last_chunk())
}

/// What is left to read.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cur<'a>(pub(super) &'a [u8]);

impl<'a> Cur<'a> {
    /// Goes past `lit`, or stays and says `None`. Its length is known, so that it is compared in words.
    #[inline]
    pub(super) fn lit<const N: usize>(&mut self, lit: &[u8; N]) -> Option<()> {
        let (here, rest) = self.0.split_first_chunk::<N>()?;
        (here == lit).then(|| self.0 = rest)
    }

    /// Goes past `lit` if it stands here; says whether it did.
    #[inline]
    pub(super) fn eat<const N: usize>(&mut self, lit: &[u8; N]) -> bool {
        self.lit(lit).is_some()
    }

    /// [`Self::lit`] for words out of a table.
    #[inline]
    pub(super) fn words(&mut self, words: &[u8]) -> Option<()> {
        self.0 = self.0.strip_prefix(words)?;
        Some(())
    }

    /// The next byte, left where it is.
    #[inline]
    pub(super) fn peek(&self) -> Option<u8> {
        self.0.first().copied()
    }

    /// Goes past blanks and tabs.
    #[inline]
    pub(super) fn blanks(&mut self) {
        while let Some((b' ' | b'\t', rest)) = self.0.split_first() {
            self.0 = rest;
        }
    }

    /// A decimal number of at most 19 digits.
    #[inline]
    pub(super) fn num(&mut self) -> Option<u64> {
        if let Some(next) = self.0.first_chunk::<8>() {
            let (value, digits) = small(*next);
            if digits < 8 {
                self.0 = self.0.get(digits..)?;
                return (digits > 0).then_some(value);
            }
        }
        self.long()
    }

    /// [`Self::num`] digit by digit.
    fn long(&mut self) -> Option<u64> {
        let (mut value, mut digits) = (0_u64, 0_u32);
        while let Some((byte, rest)) = self.0.split_first() {
            let digit = byte.wrapping_sub(b'0');
            if digit > 9 {
                break;
            }
            value = value.wrapping_mul(10).wrapping_add(u64::from(digit));
            digits += 1;
            self.0 = rest;
        }
        (1..=19).contains(&digits).then_some(value)
    }

    /// A decimal number that fits `T`.
    #[inline]
    pub(super) fn int<T: TryFrom<u64>>(&mut self) -> Option<T> {
        T::try_from(self.num()?).ok()
    }

    /// A decimal number with an optional minus.
    #[inline]
    pub(super) fn signed(&mut self) -> Option<i64> {
        let minus = self.eat(b"-");
        let value = i64::try_from(self.num()?).ok()?;
        Some(if minus { -value } else { value })
    }

    /// Lower or upper hexadecimal digits, at most 16: value, how many, and whether all were decimal.
    pub(super) fn hex_digits(&mut self) -> Option<(u64, u8, bool)> {
        let (mut value, mut digits, mut decimal) = (0_u64, 0_u8, true);
        while let Some((byte, rest)) = self.0.split_first() {
            // Looked up: which of the digits are letters can't be foretold.
            let digit = HEX.get(usize::from(*byte)).copied().unwrap_or(NO_HEX);
            if digit == NO_HEX {
                break;
            }
            decimal &= digit < 10;
            value = (value << 4) | u64::from(digit);
            digits = digits.saturating_add(1);
            self.0 = rest;
        }
        (1..=16)
            .contains(&digits)
            .then_some((value, digits, decimal))
    }

    /// Hexadecimal without a prefix.
    #[inline]
    pub(super) fn hex(&mut self) -> Option<u64> {
        if let Some(next) = self.0.first_chunk::<8>() {
            let (value, digits) = small_hex(*next);
            if (1..8).contains(&digits) {
                self.0 = self.0.get(digits..)?;
                return Some(value);
            }
        }
        self.hex_digits().map(|(value, ..)| value)
    }

    /// What `%p` prints: `0x…` or `(nil)`, which is 0.
    #[inline]
    pub(super) fn pointer(&mut self) -> Option<u64> {
        if self.eat(b"(nil)") {
            return Some(0);
        }
        self.lit(b"0x")?;
        self.hex()
    }

    /// Everything up to the next blank, which is left standing. May be empty.
    #[inline]
    pub(super) fn word(&mut self) -> &'a [u8] {
        self.until(b' ')
            .unwrap_or_else(|| std::mem::take(&mut self.0))
    }

    /// Goes past a word, up to a blank or a control, looked at eight bytes by eight.
    #[inline]
    pub(super) fn skip_word(&mut self) {
        while let Some((next, rest)) = self.0.split_first_chunk::<8>() {
            let x = u64::from_le_bytes(*next);
            // The lowest of these bits is right, which is the one that counts.
            let ends = x.wrapping_sub(ONES * 0x21) & !x & (ONES * 0x80);
            if ends != 0 {
                let at = (ends.trailing_zeros() / 8) as usize;
                self.0 = self.0.get(at..).unwrap_or_default();
                return;
            }
            self.0 = rest;
        }
        self.run(|b| b > b' ');
    }

    /// Everything before the next `stop`, which is left standing.
    #[inline]
    pub(super) fn until(&mut self, stop: u8) -> Option<&'a [u8]> {
        let at = memchr::memchr(stop, self.0)?;
        let (before, rest) = self.0.split_at_checked(at)?;
        self.0 = rest;
        Some(before)
    }

    /// Goes past the next `lit` and gives what stood before it.
    pub(super) fn seek(&mut self, lit: &[u8]) -> Option<&'a [u8]> {
        let at = find(self.0, lit)?;
        let before = self.0.get(..at)?;
        self.0 = self.0.get(at + lit.len()..)?;
        Some(before)
    }

    /// The longest run of bytes that please.
    #[inline]
    pub(super) fn run(&mut self, ok: impl Fn(u8) -> bool) -> &'a [u8] {
        let at = self.0.iter().position(|b| !ok(*b)).unwrap_or(self.0.len());
        let (run, rest) = self.0.split_at_checked(at).unwrap_or((self.0, &[]));
        self.0 = rest;
        run
    }

    /// Whether a token may end here: at a blank or at the end.
    #[inline]
    pub(super) fn at_gap(&self) -> bool {
        matches!(self.peek(), None | Some(b' '))
    }
}

/// How far `inner`, a tail of `outer`, lies behind its start.
pub(super) fn offset(outer: &[u8], tail: &[u8]) -> usize {
    outer.len().saturating_sub(tail.len())
}

/// Whether `needle` stands anywhere in `hay`.
pub(super) fn has(hay: &[u8], needle: &[u8]) -> bool {
    find(hay, needle).is_some()
}

/// The first place of `needle`. For the short texts of a line: what prepares a search of a long one takes
/// longer than they do.
#[inline]
pub(super) fn find(hay: &[u8], needle: &[u8]) -> Option<usize> {
    // Blanks are everywhere; what follows one tells more.
    let rare = usize::from(needle.first() == Some(&b' ') && needle.len() > 1);
    let Some(byte) = needle.get(rare) else {
        return Some(0);
    };
    let mut from = 0;
    loop {
        let at = from + memchr::memchr(*byte, hay.get(from + rare..)?)?;
        if hay.get(at..)?.starts_with(needle) {
            return Some(at);
        }
        from = at + 1;
    }
}

/// The first place of a byte that is not far, looked for in words: what prepares a wider search takes longer.
#[inline]
pub(super) fn near(byte: u8, s: &[u8]) -> Option<usize> {
    let (words, tail) = s.as_chunks::<8>();
    let whole = words.iter().zip(0_usize..).find_map(|(word, n)| {
        let x = u64::from_le_bytes(*word) ^ (ONES * u64::from(byte));
        let hits = x.wrapping_sub(ONES) & !x & (ONES * 0x80);
        (hits != 0).then(|| n * 8 + (hits.trailing_zeros() / 8) as usize)
    });
    whole.or_else(|| {
        let at = tail.iter().position(|b| *b == byte)?;
        Some(s.len() - tail.len() + at)
    })
}

/// Whether both are the same: compared in large pieces, the last once more, so that no byte is looked at alone.
/// Less than eight bytes are like nothing.
#[inline]
pub(super) fn alike(a: &[u8], b: &[u8]) -> bool {
    #[inline(always)]
    fn ends<const N: usize>(a: &[u8], b: &[u8]) -> bool {
        let fronts = a.first_chunk::<N>().zip(b.first_chunk::<N>());
        let backs = a.last_chunk::<N>().zip(b.last_chunk::<N>());
        fronts.is_some_and(|(a, b)| a == b) && backs.is_some_and(|(a, b)| a == b)
    }
    let pieces = || {
        let (a, b) = (a.as_chunks::<32>().0, b.as_chunks::<32>().0);
        a.iter().zip(b).all(|(a, b)| a == b)
    };
    a.len() == b.len()
        && match a.len() {
            0..8 => false,
            8..16 => ends::<8>(a, b),
            16..32 => ends::<16>(a, b),
            32..=64 => ends::<32>(a, b),
            _ => pieces() && a.last_chunk::<32>() == b.last_chunk(),
        }
}

/// Bytes as text; what is not UTF-8 is replaced.
pub(super) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// What follows the first `lit`.
pub(super) fn after<'a>(hay: &'a [u8], lit: &[u8]) -> Option<&'a [u8]> {
    hay.get(find(hay, lit)? + lit.len()..)
}

/// What stands between the first `open` and the next `close`.
pub(super) fn between<'a>(hay: &'a [u8], open: &[u8], close: &[u8]) -> Option<&'a [u8]> {
    let tail = after(hay, open)?;
    tail.get(..find(tail, close)?)
}

/// Odd, and without a pattern.
const K: u64 = 0x517c_c1b7_2722_0a95;

/// What a [`hash`] is made of, word by word: no step waits for the one before.
#[derive(Debug, Clone, Copy)]
pub(super) struct Hash {
    sum: u64,
    factor: u64,
}

impl Hash {
    /// For so many bytes.
    #[inline]
    pub(super) fn new(seed: u64, len: usize) -> Self {
        Self {
            sum: seed ^ (len as u64).wrapping_mul(K),
            factor: K,
        }
    }

    #[inline]
    pub(super) fn add(&mut self, word: u64) {
        self.sum = self.sum.wrapping_add(word.wrapping_mul(self.factor));
        self.factor = self.factor.wrapping_add(K << 1);
    }

    /// All of it: the same for the same words, and seldom for others.
    #[inline]
    pub(super) fn sum(self) -> u64 {
        self.sum
    }

    /// Its upper bits, so many: they depend on every bit that was added.
    #[inline]
    pub(super) fn upper(self, bits: u32) -> usize {
        usize::try_from(self.sum >> (u64::BITS - bits)).unwrap_or(0)
    }

    #[inline]
    pub(super) fn end(self) -> u64 {
        let h = (self.sum ^ (self.sum >> 32)).wrapping_mul(K);
        h ^ (h >> 32)
    }
}

/// A hash for the small interning tables; not for anything that is stored.
#[inline]
pub(super) fn hash(seed: u64, bytes: &[u8]) -> u64 {
    let mut h = Hash::new(seed, bytes.len());
    let (words, tail) = bytes.as_chunks::<8>();
    for word in words {
        h.add(u64::from_le_bytes(*word));
    }
    if let Some(last) = bytes.last_chunk::<8>() {
        // Some bytes count twice, which is quicker than one by one.
        h.add(u64::from_le_bytes(*last));
    } else {
        for byte in tail {
            h.add(u64::from(*byte));
        }
    }
    h.end()
}

/// A hash of seven words out of some bytes, in no loop, for tables that compare all of them afterwards.
#[inline]
pub(super) fn glance(bytes: &[u8]) -> u64 {
    let word = |at: usize| {
        let rest = bytes.get(at..)?;
        rest.first_chunk::<8>()
            .map(|word| u64::from_le_bytes(*word))
    };
    let (half, len) = (bytes.len() / 2, bytes.len());
    let words = || {
        let front = (word(0)?, word(8)?, word(16)?);
        Some((
            front,
            word(half - 8)?,
            word(half)?,
            word(len - 16)?,
            word(len - 8)?,
        ))
    };
    let Some(((a, b, c), d, e, f, g)) = (len >= 24).then(words).flatten() else {
        return hash(0, bytes);
    };
    let mut h = Hash::new(0, len);
    for word in [a, b, c, d, e, f, g] {
        h.add(word);
    }
    h.end()
}

/// An open-addressing table of indices into some list, so that equal things are found without an allocation.
#[derive(Debug, Default)]
pub(super) struct Table {
    slots: Vec<u32>,
    used: usize,
}

impl Table {
    /// The index whose thing equals what is looked for, or the slot where it belongs.
    #[inline]
    pub(super) fn find(&self, hash: u64, same: impl Fn(u32) -> bool) -> Option<u32> {
        let mask = self.slots.len().checked_sub(1)?;
        let mut at = usize::try_from(hash & 0xffff_ffff).unwrap_or(0) & mask;
        for _ in 0..self.slots.len() {
            match self.slots.get(at) {
                None | Some(&u32::MAX) => return None,
                Some(&index) if same(index) => return Some(index),
                Some(_) => at = (at + 1) & mask,
            }
        }
        None
    }

    /// Enters `index`; `hash_of` gives the hash of those that are there already when the table grows.
    pub(super) fn enter(&mut self, hash: u64, index: u32, hash_of: impl Fn(u32) -> u64) {
        if self.slots.len() < (self.used + 1) * 2 {
            let bigger = (self.slots.len() * 2).max(256);
            let old = std::mem::replace(&mut self.slots, vec![u32::MAX; bigger]);
            for index in old.into_iter().filter(|i| *i != u32::MAX) {
                self.place(hash_of(index), index);
            }
        }
        self.place(hash, index);
        self.used += 1;
    }

    fn place(&mut self, hash: u64, index: u32) {
        let Some(mask) = self.slots.len().checked_sub(1) else {
            return;
        };
        let mut at = usize::try_from(hash & 0xffff_ffff).unwrap_or(0) & mask;
        while let Some(slot) = self.slots.get_mut(at) {
            if *slot == u32::MAX {
                *slot = index;
                return;
            }
            at = (at + 1) & mask;
        }
    }
}
