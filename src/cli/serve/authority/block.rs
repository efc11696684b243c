//! The walk through a header block (RFC 7541, section 6). Every field says itself where it
//! ends, so that no table is needed.

use http::uri::Authority;

/// The field's number in the table that never changes.
const AUTHORITY: usize = 1;

const END_HEADERS: u8 = 0x4;
const PADDED: u8 = 0x8;
const PRIORITY: u8 = 0x20;

/// Mends `:authority` in the payload of a HEADERS frame, in place; whether there was something
/// to mend. A block that goes on in another frame, or is not what it should be, stays as it is.
pub(super) fn mend(flags: u8, payload: &mut [u8]) -> bool {
    fields_of(flags, payload).and_then(mend_fields).unwrap_or(false)
}

fn fields_of(flags: u8, payload: &mut [u8]) -> Option<&mut [u8]> {
    if flags & END_HEADERS == 0 {
        return None;
    }
    let (mut start, mut padding) = (0, 0);
    if flags & PADDED != 0 {
        padding = usize::from(*payload.first()?);
        start = 1;
    }
    if flags & PRIORITY != 0 {
        start += 5;
    }
    let end = payload.len().checked_sub(padding)?;
    payload.get_mut(start..end)
}

fn mend_fields(block: &mut [u8]) -> Option<bool> {
    let mut was_mended = false;
    let mut at = 0;
    while let Some(&first) = block.get(at) {
        // In a table, or the size of one: nothing is written out.
        let bits = match first {
            0x80.. => 7,
            0x20..=0x3f => 5,
            0x40..=0x7f => 6,
            _ => 4,
        };
        let number = integer(block, &mut at, bits)?;
        if bits == 7 || bits == 5 {
            continue;
        }
        let is_authority = match number {
            0 => {
                let name = string(block, &mut at)?;
                !name.is_huffman && block[name.start..name.end] == *b":authority"
            }
            number => number == AUTHORITY,
        };
        let value = string(block, &mut at)?;
        if is_authority {
            let bytes = &mut block[value.start..value.end];
            was_mended |= match value.is_huffman {
                true => mend_huffman(bytes),
                false => mend_plain(bytes),
            };
        }
    }
    Some(was_mended)
}

/// A number that begins in the last bits of a byte (section 5.1).
fn integer(block: &[u8], at: &mut usize, bits: u32) -> Option<usize> {
    let most = (1 << bits) - 1;
    let first = usize::from(*block.get(*at)?) & most;
    *at += 1;
    if first < most {
        return Some(first);
    }
    let mut number = first;
    // More digits than any length has here are a mistake.
    for shift in [0, 7, 14] {
        let digit = usize::from(*block.get(*at)?);
        *at += 1;
        number += (digit & 0x7f) << shift;
        if digit & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

struct Text {
    start: usize,
    end: usize,
    is_huffman: bool,
}

/// A string (section 5.2).
fn string(block: &[u8], at: &mut usize) -> Option<Text> {
    let is_huffman = *block.get(*at)? & 0x80 != 0;
    let length = integer(block, at, 7)?;
    let (start, end) = (*at, at.checked_add(length)?);
    *at = end;
    (end <= block.len()).then_some(Text { start, end, is_huffman })
}

fn mend_plain(value: &mut [u8]) -> bool {
    if value.is_empty() || Authority::try_from(&*value).is_ok() {
        return false;
    }
    for byte in value {
        if !byte.is_ascii_alphanumeric() && !b"-._".contains(byte) {
            *byte = b'-';
        }
    }
    true
}

/// Codes of characters (appendix B): those of `%`, `/` and `-` have six bits each, so that one
/// takes the place of another.
const CODES_TO_MEND: [u8; 2] = [0b01_0101, 0b01_1000];
const DASH: u8 = 0b01_0110;

fn mend_huffman(value: &mut [u8]) -> bool {
    let mut was_mended = false;
    let mut at = 0;
    while let Some(length) = code_length(value, at) {
        if length == 6 && CODES_TO_MEND.contains(&bits(value, at, 6)) {
            for bit in 0..6 {
                set_bit(value, at + bit, DASH >> (5 - bit) & 1);
            }
            was_mended = true;
        }
        at += length;
    }
    was_mended
}

/// The length of the code at a bit: codes of one length are neighbours. Longer ones than eight
/// bits are of characters that paths hardly have; the walk ends there, as it does at the end.
fn code_length(value: &[u8], at: usize) -> Option<usize> {
    let ends = |length| at + length <= value.len() * 8;
    let is = |length: usize, codes: std::ops::RangeInclusive<u8>| {
        ends(length) && codes.contains(&bits(value, at, length))
    };
    [(5, 0..=0x09), (6, 0x14..=0x2d), (7, 0x5c..=0x7b), (8, 0xf8..=0xfd)]
        .into_iter()
        .find_map(|(length, codes)| is(length, codes).then_some(length))
}

fn bits(value: &[u8], at: usize, count: usize) -> u8 {
    (at..at + count).fold(0, |bits, at| bits << 1 | value[at / 8] >> (7 - at % 8) & 1)
}

fn set_bit(value: &mut [u8], at: usize, bit: u8) {
    let place = 7 - at % 8;
    value[at / 8] = value[at / 8] & !(1 << place) | bit << place;
}

#[cfg(test)]
mod tests {
    use super::{END_HEADERS, PADDED, PRIORITY, mend};

    /// What becomes of a block.
    fn mended(flags: u8, payload: &[u8]) -> Option<Vec<u8>> {
        let mut payload = payload.to_vec();
        mend(flags, &mut payload).then_some(payload)
    }

    #[test]
    fn authorities_are_found_in_every_form() {
        let value = b"\x07%2Fa.so";
        let whole = b"\x07-2Fa.so";
        for before in [
            // With the name by number: indexed, not indexed, never indexed.
            &b"\x83\x86\x41"[..],
            b"\x3f\xe1\x1f\x83\x01",
            b"\x11",
            // With the name written out.
            b"\x40\x0a:authority",
            b"\x00\x0a:authority",
            // After a field with a long value, and one of the table.
            &[b"\x40\x01x\x7f\x49".as_slice(), &[b'v'; 200], b"\xbe\x41"].concat(),
        ] {
            let block = [before, value, b"\x87"].concat();
            let expected = [before, whole, b"\x87"].concat();
            assert_eq!(mended(END_HEADERS, &block), Some(expected), "{before:x?}");
        }
    }

    #[test]
    fn padding_and_priority_are_passed_over() {
        let payload = b"\x02\x00\x00\x00\x00\x10\x41\x02/a\x00\x00";
        let expected = b"\x02\x00\x00\x00\x00\x10\x41\x02-a\x00\x00";
        let flags = END_HEADERS | PADDED | PRIORITY;
        assert_eq!(mended(flags, payload), Some(expected.to_vec()));
        assert_eq!(mended(flags, b"\xff\x00"), None, "more padding than there is");
    }

    #[test]
    fn what_is_right_or_broken_stays_as_it_is() {
        for block in [
            &b"\x41\x09localhost"[..],
            b"\x41\x0e127.0.0.1:1234",
            b"\x41\x10[fe80::1%25eth0]",
            b"\x41\x00",
            b"\x04\x02/a\x83",
            b"\x41\x7f",
            b"\x41\x7f\xff\xff\xff\xff\xff/",
            b"",
        ] {
            assert_eq!(mended(END_HEADERS, block), None, "{block:x?}");
        }
        assert_eq!(mended(0, b"\x41\x02/a"), None, "it goes on in another frame");
    }

    #[test]
    fn compressed_characters_are_mended_in_their_place() {
        // 011000 00011 010101 becomes 010110 00011 010110; ones fill the last byte up.
        let (sent, expected) = (b"\x41\x83\x60\x6a\xff", b"\x41\x83\x58\x6b\x7f");
        assert_eq!(mended(END_HEADERS, sent), Some(expected.to_vec()));
        // "/a$": a character with a longer code ends the walk, and what was before it is mended.
        let (sent, expected) = (b"\x41\x84\x60\x7f\xf9\xff", b"\x41\x84\x58\x7f\xf9\xff");
        assert_eq!(mended(END_HEADERS, sent), Some(expected.to_vec()));
        // Nothing to mend in "www".
        assert_eq!(mended(END_HEADERS, b"\x41\x83\xf1\xe3\xc7"), None);
    }
}
