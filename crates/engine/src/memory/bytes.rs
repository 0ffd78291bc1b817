//! Comparing many bytes at once.

/// A bit for each of twelve bytes, lowest first, that equals `byte`.
#[inline]
#[cfg(target_arch = "x86_64")]
#[expect(
    unsafe_code,
    reason = "vector instructions have no safe form outside of functions of theirs"
)]
pub(crate) fn equal_bytes([a, b, c]: [u32; 3], byte: u8) -> u32 {
    use std::arch::x86_64::{_mm_cmpeq_epi8, _mm_movemask_epi8, _mm_set_epi32, _mm_set1_epi8};
    // SAFETY: every x86_64 processor has SSE2, and nothing here takes an address.
    let equal = unsafe {
        let bytes = _mm_set_epi32(0, c.cast_signed(), b.cast_signed(), a.cast_signed());
        _mm_movemask_epi8(_mm_cmpeq_epi8(bytes, _mm_set1_epi8(byte.cast_signed())))
    };
    equal.cast_unsigned() & 0xfff
}

#[inline]
#[cfg(not(target_arch = "x86_64"))]
pub(crate) fn equal_bytes(words: [u32; 3], byte: u8) -> u32 {
    equal_bytes_by_words(words, byte)
}

/// The same by plain arithmetic.
#[cfg(any(test, not(target_arch = "x86_64")))]
fn equal_bytes_by_words(words: [u32; 3], byte: u8) -> u32 {
    const LOW: u32 = 0x7f7f_7f7f;
    let mut bits = 0;
    for (place, word) in words.into_iter().enumerate() {
        let different = word ^ (u32::from(byte) * 0x0101_0101);
        // The high bit of each byte that is zero, and of no other.
        let equal = !(((different & LOW) + LOW) | different | LOW);
        // Bits 7, 15, 23, 31 come to stand side by side at bit 28.
        bits |= ((equal >> 7).wrapping_mul(0x1020_4080) >> 28) << (place * 4);
    }
    bits
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn bytes_are_compared_as_bytes(mut bytes: [u8; 12], byte: u8, same in 0usize..12) {
            bytes[same] = byte;
            let words = std::array::from_fn(|at| {
                u32::from_le_bytes(*bytes[at * 4..].first_chunk().unwrap())
            });
            let expected = (0..12).filter(|&at| bytes[at] == byte).fold(0, |bits, at| bits | 1 << at);
            prop_assert_eq!(equal_bytes(words, byte), expected);
            prop_assert_eq!(equal_bytes_by_words(words, byte), expected);
        }
    }
}
