//! The few pieces of protobuf's wire format that OTLP metrics need.
//! Source: the protobuf encoding specification. Knows no message.

/// The wire type of a field, as the low bits of its tag.
const VARINT: u32 = 0;
const FIXED64: u32 = 1;
const LENGTH_DELIMITED: u32 = 2;

/// How many bytes a length takes that is filled in later. A varint may be longer than it needs to be.
pub(super) const OPEN_LEN: usize = 4;

/// The longest message whose length fits [`OPEN_LEN`] bytes.
pub(super) const MAX_LEN: usize = (1 << (7 * OPEN_LEN)) - 1;

pub(super) fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(low_bits(value) | 0x80);
        value >>= 7;
    }
    out.push(low_bits(value));
}

/// How many bytes [`varint`] writes.
pub(super) const fn varint_len(value: u64) -> usize {
    (64 - (value | 1).leading_zeros() as usize).div_ceil(7)
}

pub(super) fn number(out: &mut Vec<u8>, field: u32, value: u64) {
    varint(out, (field << 3 | VARINT).into());
    varint(out, value);
}

pub(super) fn fixed64(out: &mut Vec<u8>, field: u32, value: u64) {
    varint(out, (field << 3 | FIXED64).into());
    out.extend_from_slice(&value.to_le_bytes());
}

pub(super) fn bytes(out: &mut Vec<u8>, field: u32, value: &[u8]) {
    header(out, field, value.len());
    out.extend_from_slice(value);
}

/// Begins a message of `len` bytes.
pub(super) fn header(out: &mut Vec<u8>, field: u32, len: usize) {
    varint(out, (field << 3 | LENGTH_DELIMITED).into());
    varint(out, len as u64);
}

/// A message whose length is not known when it begins.
#[derive(Clone, Copy, Debug)]
pub(super) struct Open {
    len_at: usize,
}

/// Begins a message whose end will be told to [`close`].
pub(super) fn open(out: &mut Vec<u8>, field: u32) -> Open {
    varint(out, (field << 3 | LENGTH_DELIMITED).into());
    let len_at = out.len();
    out.extend_from_slice(&[0; OPEN_LEN]);
    Open { len_at }
}

/// Ends a message at the end of `out`.
pub(super) fn close(out: &mut [u8], open: Open) {
    let begin = open.len_at + OPEN_LEN;
    let mut len = (out.len() - begin) as u64;
    assert!(len <= MAX_LEN as u64, "requests are split long before");
    for (place, byte) in out[open.len_at..begin].iter_mut().enumerate() {
        let more = if place + 1 < OPEN_LEN { 0x80 } else { 0 };
        *byte = low_bits(len) | more;
        len >>= 7;
    }
}

const fn low_bits(value: u64) -> u8 {
    (value & 0x7f) as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn varints_are_as_long_as_said() {
        for value in [0, 1, 127, 128, 16_383, 16_384, u64::from(u32::MAX), u64::MAX] {
            let mut out = Vec::new();
            varint(&mut out, value);
            assert_eq!(out.len(), varint_len(value), "{value}");
            assert_eq!(prost::encoding::decode_varint(&mut &*out).expect("a varint"), value);
        }
    }

    #[test]
    fn a_length_filled_in_later_reads_as_a_length() {
        for len in [0, 1, 127, 128, 70_000] {
            let mut out = vec![9];
            let message = open(&mut out, 2);
            out.resize(out.len() + len, 7);
            close(&mut out, message);
            let mut rest = &out[2..];
            assert_eq!(prost::encoding::decode_varint(&mut rest).expect("a varint"), len as u64);
            assert_eq!(rest.len(), len);
        }
    }
}
