//! The Internet checksum (RFC 1071) and its incremental update (RFC 1624).

/// Ones' complement sum of 16-bit big-endian words; an odd last byte is padded with zero. Not yet folded
/// to 16 bits, not complemented.
pub fn sum(bytes: &[u8]) -> u32 {
    let mut total = 0u32;
    let mut chunks = bytes.chunks_exact(2);
    for pair in &mut chunks {
        if let [high, low] = *pair {
            total = total.wrapping_add(u32::from(u16::from_be_bytes([high, low])));
        }
    }
    if let [last] = *chunks.remainder() {
        total = total.wrapping_add(u32::from(u16::from_be_bytes([last, 0])));
    }
    total
}

/// Folds a sum to 16 bits.
#[inline(always)]
pub const fn fold(total: u32) -> u16 {
    let once = (total & 0xffff) + (total >> 16);
    let twice = (once & 0xffff) + (once >> 16);
    twice as u16
}

/// The checksum field for `bytes` whose own checksum field is zero.
pub fn checksum(bytes: &[u8]) -> u16 {
    !fold(sum(bytes))
}

/// RFC 1624 eq. 3: the new checksum after a 16-bit word changed from `old` to `new`.
#[inline(always)]
pub const fn update(checksum: u16, old: u16, new: u16) -> u16 {
    !fold((!checksum) as u32 + (!old) as u32 + new as u32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::vec::Vec;

    #[test]
    fn rfc_1071_section_3_example() {
        assert_eq!(fold(sum(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7])), 0xddf2);
    }

    #[test]
    fn rfc_1624_section_4_example() {
        // The case in which equation 2 of RFC 1141 gives 0x0000.
        assert_eq!(update(0xdd2f, 0x5555, 0x3285), 0x0000);
    }

    #[test]
    fn an_odd_byte_is_the_high_one() {
        assert_eq!(sum(&[0x12]), 0x1200);
        assert_eq!(sum(&[]), 0);
    }

    #[test]
    fn the_largest_frame_does_not_overflow() {
        assert_eq!(fold(sum(&std::vec![0xff; 65536])), 0xffff);
    }

    proptest! {
        /// Goal: an update is a recalculation. Method: change one word of random bytes. The two zeros of
        /// ones' complement are one value.
        #[test]
        fn an_update_equals_a_recalculation(mut words in proptest::collection::vec(any::<u16>(), 2..40),
                                            place: proptest::sample::Index, new: u16) {
            let bytes = |words: &[u16]| words.iter().flat_map(|word| word.to_be_bytes()).collect::<Vec<_>>();
            let before = checksum(&bytes(&words));
            let place = place.index(words.len());
            let old = core::mem::replace(&mut words[place], new);
            let after = checksum(&bytes(&words));
            let updated = update(before, old, new);
            prop_assert!(updated == after || (updated | after == 0xffff && updated & after == 0),
                "{updated:#x} {after:#x}");
        }

        #[test]
        fn a_message_with_its_checksum_sums_to_nothing(mut bytes in proptest::collection::vec(any::<u8>(), 2..300)) {
            bytes[0] = 0;
            bytes[1] = 0;
            let sum = checksum(&bytes);
            bytes[..2].copy_from_slice(&sum.to_be_bytes());
            prop_assert_eq!(checksum(&bytes), 0);
        }
    }
}
