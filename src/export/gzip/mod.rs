//! Compression to gzip (RFC 1952) at one level, for texts whose lines resemble each other. Entry point: [`Encoder`].
//!
//! Of the places where a string may have occurred before it tries two: at the distance of the last match, which is the same field of the
//! line before, and where its first four bytes occurred last. That finds nearly all there is in a text of metrics, and a general
//! compressor takes half as long again (`docs/decisions/0033-scrapes-and-memory.md`).

mod huffman;
mod symbols;

use std::io::{self, Write};

use self::huffman::{Code, codes, lengths};
use self::symbols::{
    DISTANCES, END, LENGTHS_ORDER, LITERALS, MAX_MATCH, distance_symbol, length_base, length_symbol,
};

/// How far back a match may be: the limit of the format.
const WINDOW: usize = 32 << 10;

/// How much is compressed with one pair of Huffman codes.
const BLOCK: usize = 64 << 10;

/// The table of positions has two to the power of this many entries. It is to stay in the first cache of the CPU.
const HASH_BITS: u32 = 12;

/// Bytes that are hashed, and the shortest match.
const HASHED: usize = 4;

/// The longest codes of the format, in bits: for literals, lengths and distances, and for the lengths of these codes.
const MAX_CODE: u8 = 15;
const MAX_LENGTH_CODE: u8 = 7;

/// The header without a name and a time. The last byte: the system is unknown.
const HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 4, 255];

/// Types of blocks, after the bit that marks the last one.
const DYNAMIC: u32 = 2;

/// Compresses what is written to it.
///
/// Without [`Encoder::finish`], the result is incomplete.
pub struct Encoder<W> {
    out: W,
    /// Up to [`WINDOW`] bytes that were compressed, and what was not yet.
    text: Vec<u8>,
    /// Where the latter begins.
    begin: usize,
    /// The number of bytes before `text`, modulo 2^32.
    position: u32,
    /// Where each hash occurred last. Stale entries do no harm: a match is always compared.
    table: Box<[u32; 1 << HASH_BITS]>,
    /// Distance of the last match.
    distance: usize,
    tokens: Vec<Token>,
    literals: [u32; LITERALS],
    distances: [u32; DISTANCES],
    bits: Bits,
    checksum: crc32fast::Hasher,
    /// Modulo 2^32, as the format has it.
    len: u32,
}

/// A literal, or a match.
#[derive(Clone, Copy)]
enum Token {
    Literal(u8),
    Match { len: u16, distance: u16 },
}

impl<W: Write> Encoder<W> {
    /// Returns an encoder that writes to `out`.
    pub fn new(out: W) -> Self {
        let mut bits = Bits::default();
        bits.bytes.extend_from_slice(&HEADER);
        Self {
            out,
            text: Vec::with_capacity(WINDOW + BLOCK),
            begin: 0,
            // Far from the entries of an empty table.
            position: truncated(2 * (WINDOW + BLOCK)),
            table: Box::new([0; 1 << HASH_BITS]),
            distance: 1,
            tokens: Vec::new(),
            literals: [0; LITERALS],
            distances: [0; DISTANCES],
            bits,
            checksum: crc32fast::Hasher::new(),
            len: 0,
        }
    }

    /// Compresses the rest and returns what it was written to.
    ///
    /// # Errors
    ///
    /// That of the writer.
    pub fn finish(mut self) -> io::Result<W> {
        self.block(true)?;
        self.bits.align();
        self.bits.bytes.extend_from_slice(&self.checksum.finalize().to_le_bytes());
        self.bits.bytes.extend_from_slice(&self.len.to_le_bytes());
        self.out.write_all(&self.bits.bytes)?;
        Ok(self.out)
    }

    /// Compresses what has gathered.
    fn block(&mut self, is_last: bool) -> io::Result<()> {
        let new = &self.text[self.begin..];
        self.checksum.update(new);
        self.len = self.len.wrapping_add(truncated(new.len()));
        self.find_matches();
        self.write_tokens(is_last);
        self.out.write_all(&self.bits.bytes)?;
        self.bits.bytes.clear();
        let gone = self.text.len().saturating_sub(WINDOW);
        self.text.copy_within(gone.., 0);
        self.text.truncate(WINDOW);
        self.begin = self.text.len();
        self.position = self.position.wrapping_add(truncated(gone));
        Ok(())
    }

    /// Divides what has gathered into literals and matches, and counts their symbols.
    fn find_matches(&mut self) {
        let Self { text, table, tokens, literals, distances, .. } = self;
        tokens.clear();
        literals.fill(0);
        distances.fill(0);
        let mut last = self.distance;
        let mut at = self.begin;
        while let Some(&word) = text[at..].first_chunk::<HASHED>() {
            let here = self.position.wrapping_add(truncated(at));
            let seen = std::mem::replace(&mut table[hash(word)], here);
            let distance = here.wrapping_sub(seen) as usize;
            let is_at = |distance: usize| {
                at.checked_sub(distance).is_some_and(|start| text[start..start + HASHED] == word)
            };
            if is_at(last) {
            } else if (1..=WINDOW).contains(&distance) && is_at(distance) {
                last = distance;
            } else {
                tokens.push(Token::Literal(text[at]));
                literals[usize::from(text[at])] += 1;
                at += 1;
                continue;
            }
            let end = text.len().min(at + MAX_MATCH);
            let len = common(&text[at - last..end - last], &text[at..end]);
            literals[END + 1 + length_symbol(len)] += 1;
            distances[distance_symbol(last).0] += 1;
            let short = |number: usize| u16::try_from(number).expect("at most the window");
            tokens.push(Token::Match { len: short(len), distance: short(last) });
            at += len;
        }
        for &byte in &text[at..] {
            tokens.push(Token::Literal(byte));
            literals[usize::from(byte)] += 1;
        }
        self.distance = last;
    }

    fn write_tokens(&mut self, is_last: bool) {
        self.literals[END] = 1;
        // Some decoders refuse a code of a single symbol.
        self.literals[0] = self.literals[0].max(1);
        let literals = lengths(&self.literals, MAX_CODE);
        let distances = lengths(&self.distances, MAX_CODE);
        self.bits.put(u32::from(is_last) | DYNAMIC << 1, 3);
        self.bits.write_lengths(&literals, &distances);
        let (literals, distances) = (codes(&literals), codes(&distances));
        self.bits.write(&self.tokens, &literals, &distances);
    }
}

impl<W: Write> Write for Encoder<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = bytes.len().min(WINDOW + BLOCK - self.text.len());
        self.text.extend_from_slice(&bytes[..taken]);
        if self.text.len() == WINDOW + BLOCK {
            self.block(false)?;
        }
        Ok(taken)
    }

    /// Does nothing: it would cut a block short.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Returns the low 32 bits.
#[expect(clippy::cast_possible_truncation, reason = "it is meant to be")]
const fn truncated(number: usize) -> u32 {
    number as u32
}

/// Returns the slot of four bytes in the table, by the golden ratio.
const fn hash(word: [u8; HASHED]) -> usize {
    (u32::from_le_bytes(word).wrapping_mul(0x9e37_79b1) >> (u32::BITS - HASH_BITS)) as usize
}

/// Returns how many bytes both slices, of the same length, have in common at their start.
fn common(one: &[u8], other: &[u8]) -> usize {
    let (ones, rest) = one.as_chunks::<8>();
    let (others, other_rest) = other.as_chunks::<8>();
    let mut len = 0;
    for (one, other) in ones.iter().zip(others) {
        let difference = u64::from_le_bytes(*one) ^ u64::from_le_bytes(*other);
        if difference != 0 {
            return len + (difference.trailing_zeros() / 8) as usize;
        }
        len += 8;
    }
    len + rest.iter().zip(other_rest).take_while(|(one, other)| one == other).count()
}

/// Bits in the order of the format: the lowest first.
#[derive(Default)]
struct Bits {
    bytes: Vec<u8>,
    /// Those that do not make a byte yet.
    pending: u64,
    count: u32,
}

impl Bits {
    /// Appends at most 32 bits.
    fn put(&mut self, bits: u32, count: u32) {
        self.pending |= u64::from(bits) << self.count;
        self.count += count;
        let whole = self.count / 8;
        self.bytes.extend_from_slice(&self.pending.to_le_bytes()[..whole as usize]);
        self.pending >>= whole * 8;
        self.count %= 8;
    }

    /// Fills up the last byte.
    fn align(&mut self) {
        self.put(0, self.count.wrapping_neg() % 8);
    }

    /// Writes the two codes of a block, as the lengths of their symbols, which are in a code themselves.
    fn write_lengths(&mut self, literals: &[u8], distances: &[u8]) {
        let used = |lengths: &[u8], least: usize| {
            least.max(lengths.iter().rposition(|&length| length > 0).map_or(0, |last| last + 1))
        };
        let (literals, distances) = (&literals[..used(literals, END + 1)], &distances[..used(distances, 1)]);
        let all: Vec<u8> = literals.iter().chain(distances).copied().collect();
        let runs = runs(&all);
        let mut counts = [0; LENGTHS_ORDER.len()];
        for run in &runs {
            counts[usize::from(run.symbol)] += 1;
        }
        let lengths = lengths(&counts, MAX_LENGTH_CODE);
        let written =
            LENGTHS_ORDER.iter().rposition(|&symbol| lengths[symbol] > 0).map_or(4, |last| 4.max(last + 1));
        self.put(truncated(literals.len() - (END + 1)), 5);
        self.put(truncated(distances.len() - 1), 5);
        self.put(truncated(written - 4), 4);
        for &symbol in &LENGTHS_ORDER[..written] {
            self.put(lengths[symbol].into(), 3);
        }
        let codes = codes(&lengths);
        for Run { symbol, extra, extra_bits } in runs {
            let code = codes[usize::from(symbol)];
            self.put(code.bits.into(), code.len.into());
            self.put(extra.into(), extra_bits.into());
        }
    }

    /// Writes tokens, and the end of the block.
    fn write(&mut self, tokens: &[Token], literals: &[Code], distances: &[Code]) {
        let (mut pending, mut count) = (self.pending, self.count);
        let mut begin = self.bytes.len();
        // No token has more than 48 bits.
        self.bytes.resize(begin + tokens.len() * 6 + 8, 0);
        for &token in tokens {
            let mut put = |bits: u64, len: u32| {
                pending |= bits << count;
                count += len;
            };
            match token {
                Token::Literal(byte) => {
                    let code = literals[usize::from(byte)];
                    put(code.bits.into(), code.len.into());
                }
                Token::Match { len, distance } => {
                    let symbol = length_symbol(len.into());
                    let code = literals[END + 1 + symbol];
                    put(code.bits.into(), code.len.into());
                    let (base, extra_bits) = length_base(symbol);
                    put((len - base).into(), extra_bits);
                    let (symbol, extra, extra_bits) = distance_symbol(distance.into());
                    let code = distances[symbol];
                    put(code.bits.into(), code.len.into());
                    put(extra.into(), extra_bits);
                }
            }
            self.bytes[begin..begin + 8].copy_from_slice(&pending.to_le_bytes());
            begin += (count / 8) as usize;
            pending >>= count & !7;
            count %= 8;
        }
        self.bytes.truncate(begin);
        (self.pending, self.count) = (pending, count);
        self.put(literals[END].bits.into(), literals[END].len.into());
    }
}

/// Part of the lengths of codes: a length, or the repetition of one.
struct Run {
    symbol: u8,
    extra: u8,
    extra_bits: u8,
}

/// Returns lengths of codes as symbols of the code in which they are written.
fn runs(lengths: &[u8]) -> Vec<Run> {
    let mut runs = Vec::new();
    let mut rest = lengths;
    while let Some(&length) = rest.first() {
        let mut same = rest.iter().take_while(|&&other| other == length).count();
        let mut push = |symbol, extra: usize, extra_bits| {
            runs.push(Run { symbol, extra: u8::try_from(extra).expect("at most 127"), extra_bits });
        };
        if length == 0 && same >= 3 {
            same = same.min(138);
            if same <= 10 { push(17, same - 3, 3) } else { push(18, same - 11, 7) }
        } else if same >= 4 {
            // The length, then its repetition.
            same = same.min(7);
            push(length, 0, 0);
            push(16, same - 4, 2);
        } else {
            same = 1;
            push(length, 0, 0);
        }
        rest = &rest[same..];
    }
    runs
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use flate2::read::GzDecoder;
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn compressed<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Vec<u8> {
        let mut encoder = Encoder::new(Vec::new());
        for piece in pieces {
            encoder.write_all(piece).expect("a vector takes everything");
        }
        encoder.finish().expect("a vector takes everything")
    }

    fn decompressed(bytes: &[u8]) -> Vec<u8> {
        let mut text = Vec::new();
        // The decoder verifies the checksum and the length.
        GzDecoder::new(bytes).read_to_end(&mut text).expect("it is gzip");
        text
    }

    /// Lines that resemble each other, as many as make several blocks.
    fn lines(seed: u32) -> String {
        let mut number = seed;
        (0..6_000)
            .map(|line| {
                number = number.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                format!(
                    "family_{}{{id=\"{}\",name=\"object_{}\"}} {}\n",
                    line / 1000,
                    line + seed,
                    line % 3,
                    number >> 20
                )
            })
            .collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, cases: 64, ..ProptestConfig::default() })]

        #[test]
        fn any_bytes_are_decompressed_to_the_same(pieces in vec(vec(any::<u8>(), 0..5_000), 0..50)) {
            let all = pieces.concat();
            prop_assert_eq!(decompressed(&compressed(pieces.iter().map(Vec::as_slice))), all);
        }

        #[test]
        fn few_different_bytes_in_any_pieces_are_decompressed_to_the_same(
            bytes in vec(0_u8..3, 0..300_000), piece in 1_usize..100_000
        ) {
            prop_assert_eq!(decompressed(&compressed(bytes.chunks(piece))), bytes);
        }

        #[test]
        fn lines_are_decompressed_to_the_same(seed: u32, piece in 1_usize..100_000) {
            let text = lines(seed >> 8);
            prop_assert_eq!(decompressed(&compressed(text.as_bytes().chunks(piece))), text.as_bytes());
        }
    }

    #[test]
    fn nothing_is_compressed_to_an_empty_file() {
        assert_eq!(decompressed(&compressed([])), b"");
        assert_eq!(decompressed(&compressed([&b""[..], &b"a"[..]])), b"a");
    }

    #[test]
    fn long_runs_and_far_repetitions_are_found() {
        let text = vec![b'a'; 1_000_000];
        assert!(compressed([&*text]).len() < 2_500);
        // A block of noise, repeated as far away as a match may be.
        let mut number = 1_u32;
        let text: Vec<u8> = std::iter::repeat_with(|| {
            number = number.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            number.to_be_bytes()[0]
        })
        .take(WINDOW)
        .collect();
        for repetitions in [2, 8] {
            let repeated = text.repeat(repetitions);
            assert_eq!(decompressed(&compressed([&*repeated])), repeated);
        }
    }

    /// Codes would be longer than the format allows: the frequencies of Fibonacci make the deepest tree.
    #[test]
    fn codes_are_limited() {
        let (mut one, mut next) = (1_usize, 1);
        let mut text = Vec::new();
        for byte in 0..21_u8 {
            text.extend(std::iter::repeat_n([byte, 255 - byte, byte.wrapping_mul(7)], one));
            (one, next) = (next, one + next);
        }
        // In an order without repetitions.
        let mut order: Vec<usize> = (0..text.len()).collect();
        order.sort_by_key(|&index| index.wrapping_mul(0x9e37_79b9) & 0xffff_ffff);
        let text: Vec<u8> = order.into_iter().map(|index| text[index]).collect::<Vec<_>>().concat();
        assert_eq!(decompressed(&compressed([&*text])), text);
    }

    #[test]
    fn a_text_of_metrics_is_smaller_than_by_zlib() {
        let text = lines(1);
        let mut zlib = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        zlib.write_all(text.as_bytes()).expect("a vector takes everything");
        let zlib = zlib.finish().expect("a vector takes everything").len();
        let own = compressed([text.as_bytes()]).len();
        assert!(own < zlib, "{own} bytes, zlib has {zlib}");
    }

    #[test]
    fn errors_of_the_writer_are_passed_on() {
        let mut room = [0_u8; 100];
        let mut encoder = Encoder::new(&mut room[..]);
        let written = encoder.write_all(lines(1).repeat(4).as_bytes());
        assert!(written.is_err() || encoder.finish().is_err());
    }
}
