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
