//! Writer for the parts of protobuf's wire format that metrics use, over OTLP and in a scrape.
//! Source: the protobuf encoding specification. Independent of any message type.

/// Wire types: the low bits of a field's tag.
const VARINT: u32 = 0;
const FIXED64: u32 = 1;
const LENGTH_DELIMITED: u32 = 2;

/// Size in bytes of a length that is filled in later. A varint may be longer than necessary.
pub(in crate::export) const OPEN_LEN: usize = 4;

/// Size of the longest message whose length fits [`OPEN_LEN`] bytes.
pub(in crate::export) const MAX_LEN: usize = (1 << (7 * OPEN_LEN)) - 1;

pub(in crate::export) fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(low_bits(value) | 0x80);
        value >>= 7;
    }
    out.push(low_bits(value));
}

/// Returns how many bytes [`varint`] writes.
pub(in crate::export) const fn varint_len(value: u64) -> usize {
    (64 - (value | 1).leading_zeros() as usize).div_ceil(7)
}

pub(in crate::export) fn number(out: &mut Vec<u8>, field: u32, value: u64) {
    varint(out, (field << 3 | VARINT).into());
    varint(out, value);
}

/// Writes a number that may be negative, as `sint32` and `sint64` are.
pub(in crate::export) fn signed(out: &mut Vec<u8>, field: u32, value: i64) {
    number(out, field, (value << 1 ^ value >> 63).cast_unsigned());
}

pub(in crate::export) fn fixed64(out: &mut Vec<u8>, field: u32, value: u64) {
    varint(out, (field << 3 | FIXED64).into());
    out.extend_from_slice(&value.to_le_bytes());
}

pub(in crate::export) fn bytes(out: &mut Vec<u8>, field: u32, value: &[u8]) {
    header(out, field, value.len());
    out.extend_from_slice(value);
}

/// Starts a message of `len` bytes.
pub(in crate::export) fn header(out: &mut Vec<u8>, field: u32, len: usize) {
    varint(out, (field << 3 | LENGTH_DELIMITED).into());
    varint(out, len as u64);
}

/// A message whose length is not known at its start.
#[derive(Clone, Copy, Debug)]
pub(in crate::export) struct OpenMessage {
    len_at: usize,
}

/// Starts a message that ends with [`close`].
pub(in crate::export) fn open(out: &mut Vec<u8>, field: u32) -> OpenMessage {
    varint(out, (field << 3 | LENGTH_DELIMITED).into());
    let len_at = out.len();
    out.extend_from_slice(&[0; OPEN_LEN]);
    OpenMessage { len_at }
}

/// Ends a message that extends to the end of `out`, and fills in its length.
pub(in crate::export) fn close(out: &mut [u8], open: OpenMessage) {
    let start = open.len_at + OPEN_LEN;
    let mut len = (out.len() - start) as u64;
    assert!(len <= MAX_LEN as u64, "requests are split below this size");
    for (index, byte) in out[open.len_at..start].iter_mut().enumerate() {
        let more = if index + 1 < OPEN_LEN { 0x80 } else { 0 };
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
    fn varint_len_is_the_encoded_length() {
        for value in [0, 1, 127, 128, 16_383, 16_384, u64::from(u32::MAX), u64::MAX] {
            let mut out = Vec::new();
            varint(&mut out, value);
            assert_eq!(out.len(), varint_len(value), "{value}");
            assert_eq!(prost::encoding::decode_varint(&mut &*out).expect("a varint"), value);
        }
    }

    #[test]
    fn signed_numbers_decode() {
        for value in [0, -1, 1, -64, 64, i64::MIN, i64::MAX] {
            let mut out = Vec::new();
            signed(&mut out, 2, value);
            let (mut rest, mut decoded) = (&out[1..], 0_i64);
            let context = prost::encoding::DecodeContext::default();
            prost::encoding::sint64::merge(
                prost::encoding::WireType::Varint,
                &mut decoded,
                &mut rest,
                context,
            )
            .expect("a number");
            assert_eq!((decoded, rest.len()), (value, 0));
        }
    }

    #[test]
    fn lengths_filled_in_later_decode() {
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
