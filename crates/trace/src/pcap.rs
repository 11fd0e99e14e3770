//! Frames out of capture files: pcap (both byte orders) and pcapng, of Ethernet.

const LINK_ETHERNET: u32 = 1;
const PCAP_HEADER_LEN: usize = 24;
const PCAP_RECORD_LEN: usize = 16;
/// pcapng block types.
const SECTION: u32 = 0x0a0d_0d0a;
const INTERFACE: u32 = 1;
const SIMPLE_PACKET: u32 = 3;
const ENHANCED_PACKET: u32 = 6;

/// Why a file has no such frame.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotInFile {
    #[error("it is neither pcap nor pcapng")]
    Format,
    #[error("its frames are not Ethernet (link type {0})")]
    LinkType(u32),
    #[error("it has {frames} frames; number {wanted} is not among them")]
    Number { wanted: usize, frames: usize },
    #[error("frame {0} was captured without its end; capture with a larger snap length")]
    Cut(usize),
}

/// The frame of that number, from 1, of a file's bytes.
///
/// # Errors
/// The file is no capture of Ethernet, or has no whole frame of that number.
pub fn frame(file: &[u8], number: usize) -> Result<Vec<u8>, NotInFile> {
    let frames = match file.first_chunk::<4>() {
        Some([0xd4 | 0x4d, 0xc3 | 0x3c, 0xb2, 0xa1]) => pcap(file, u32::from_le_bytes)?,
        Some([0xa1, 0xb2, 0xc3 | 0x3c, 0xd4 | 0x4d]) => pcap(file, u32::from_be_bytes)?,
        Some([0x0a, 0x0d, 0x0d, 0x0a]) => pcapng(file)?,
        _ => return Err(NotInFile::Format),
    };
    let count = frames.len();
    let found = number.checked_sub(1).and_then(|index| frames.into_iter().nth(index));
    let found = found.ok_or(NotInFile::Number { wanted: number, frames: count })?;
    if found.bytes.len() < found.len { Err(NotInFile::Cut(number)) } else { Ok(found.bytes.to_vec()) }
}

struct Captured<'a> {
    bytes: &'a [u8],
    /// On the wire.
    len: usize,
}

type Read = fn([u8; 4]) -> u32;

fn word(bytes: &[u8], offset: usize, read: Read) -> Option<u32> {
    bytes.get(offset..)?.first_chunk().map(|word| read(*word))
}

fn pcap(file: &[u8], read: Read) -> Result<Vec<Captured<'_>>, NotInFile> {
    let link = word(file, 20, read).ok_or(NotInFile::Format)? & 0x0fff_ffff;
    if link != LINK_ETHERNET {
        return Err(NotInFile::LinkType(link));
    }
    let mut frames = Vec::new();
    let mut rest = file.get(PCAP_HEADER_LEN..).unwrap_or_default();
    while let (Some(captured), Some(len)) = (word(rest, 8, read), word(rest, 12, read)) {
        let end = PCAP_RECORD_LEN.saturating_add(captured as usize);
        let Some(bytes) = rest.get(PCAP_RECORD_LEN..end) else { break };
        frames.push(Captured { bytes, len: len as usize });
        rest = rest.get(end..).unwrap_or_default();
    }
    Ok(frames)
}

fn pcapng(file: &[u8]) -> Result<Vec<Captured<'_>>, NotInFile> {
    let mut read: Read = u32::from_le_bytes;
    let mut frames = Vec::new();
    let mut rest = file;
    while let Some(kind) = word(rest, 0, read) {
        if kind == SECTION {
            let magic = word(rest, 8, u32::from_le_bytes).ok_or(NotInFile::Format)?;
            read = if magic == 0x1a2b_3c4d { u32::from_le_bytes } else { u32::from_be_bytes };
        }
        let Some(len) = word(rest, 4, read).map(|len| len as usize).filter(|len| *len >= 12) else { break };
        let Some(block) = rest.get(..len) else { break };
        match kind {
            INTERFACE => {
                let word = word(block, 8, read).ok_or(NotInFile::Format)?;
                // The link type is the first half word, in the section's byte order.
                let link = if read(1u32.to_le_bytes()) == 1 { word & 0xffff } else { word >> 16 };
                if link != LINK_ETHERNET {
                    return Err(NotInFile::LinkType(link));
                }
            }
            ENHANCED_PACKET => frames.extend(packet(block, 28, word(block, 20, read), word(block, 24, read))),
            SIMPLE_PACKET => {
                let len = word(block, 8, read);
                frames.extend(packet(block, 12, len.map(|wire| wire.min(len_of(block, 16))), len));
            }
            _ => {}
        }
        rest = rest.get(len..).unwrap_or_default();
    }
    Ok(frames)
}

/// Bytes that a block has beside its fixed ones.
fn len_of(block: &[u8], fixed: usize) -> u32 {
    block.len().saturating_sub(fixed) as u32
}

fn packet(block: &[u8], offset: usize, captured: Option<u32>, len: Option<u32>) -> Option<Captured<'_>> {
    let bytes = block.get(offset..offset.checked_add(captured? as usize)?)?;
    Some(Captured { bytes, len: len? as usize })
}

#[cfg(test)]
mod tests {
    use super::*;

    const FRAMES: [&[u8]; 2] = [b"a frame of nineteen", b"the second frame"];

    fn pcap_file(word: fn(u32) -> [u8; 4], link: u32, cut: u32) -> Vec<u8> {
        let mut file: Vec<u8> = [0xa1b2_c3d4, 0x0004_0002, 0, 0, 65535, link].map(word).concat();
        for frame in FRAMES {
            let len = frame.len() as u32;
            file.extend([1, 2, len - cut, len].map(word).concat());
            file.extend(&frame[..frame.len() - cut as usize]);
        }
        file
    }

    fn pcapng_file() -> Vec<u8> {
        let block = |kind: u32, body: &[u8]| {
            let len = (12 + body.len() as u32).to_le_bytes();
            [&kind.to_le_bytes()[..], &len, body, &len].concat()
        };
        let mut file =
            block(SECTION, &[0x4d, 0x3c, 0x2b, 0x1a, 1, 0, 0, 0, 255, 255, 255, 255, 255, 255, 255, 255]);
        file.extend(block(INTERFACE, &[1, 0, 0, 0, 0, 0, 4, 0]));
        file.extend(block(5, b"statistics.."));
        for frame in FRAMES {
            let len = (frame.len() as u32).to_le_bytes();
            let padding = vec![0; frame.len().next_multiple_of(4) - frame.len()];
            file.extend(block(ENHANCED_PACKET, &[&[0; 12][..], &len, &len, frame, &padding].concat()));
        }
        file
    }

    #[test]
    fn frames_are_found_by_their_number_in_every_format() {
        for file in [pcap_file(u32::to_le_bytes, 1, 0), pcap_file(u32::to_be_bytes, 1, 0), pcapng_file()] {
            assert_eq!(frame(&file, 1).unwrap(), FRAMES[0]);
            assert_eq!(frame(&file, 2).unwrap(), FRAMES[1]);
            for wanted in [0, 3] {
                assert_eq!(frame(&file, wanted), Err(NotInFile::Number { wanted, frames: 2 }));
            }
            for len in 0..file.len() {
                let _ = frame(&file[..len], 1);
            }
        }
    }

    #[test]
    fn what_cannot_be_used_is_refused_with_the_reason() {
        assert_eq!(frame(b"#!/bin/sh", 1), Err(NotInFile::Format));
        assert_eq!(frame(&pcap_file(u32::to_le_bytes, 113, 0), 1), Err(NotInFile::LinkType(113)));
        assert_eq!(frame(&pcap_file(u32::to_le_bytes, 1, 3), 1), Err(NotInFile::Cut(1)));
    }
}
