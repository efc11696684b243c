//! The targets of the fuzzers for a moment, with a seed that is fixed: frames and messages
//! that are nearly right.

use criquet::{
    fuzz::{channel_protocol, spdy_frames},
    streaming::spdy::{
        frame::{self, Status},
        headers::{Deflater, Headers},
    },
};

const ROUNDS: u64 = 20_000;

/// A small generator of numbers (xorshift64*).
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) % limit as u64) as usize
    }

    /// Changes, cuts or repeats some of the bytes.
    fn spoil(&mut self, bytes: &mut Vec<u8>) {
        for _ in 0..self.below(4) {
            if bytes.is_empty() {
                return;
            }
            let at = self.below(bytes.len());
            match self.below(4) {
                0 => bytes[at] ^= 1 << self.below(8),
                1 => bytes[at] = self.below(256) as u8,
                2 => bytes.truncate(at),
                _ => bytes.extend_from_within(at..),
            }
        }
    }
}

fn frames(random: &mut Random) -> Vec<u8> {
    let mut deflater = Deflater::default();
    let mut bytes = vec![random.below(256) as u8];
    for _ in 0..random.below(12) {
        let id = random.below(9) as u32;
        bytes.extend(match random.below(8) {
            0 => {
                let kind = ["data", "error", "stdin"][random.below(3)];
                frame::open(id, &deflater.block(&Headers::from([("streamType", kind)])))
            }
            1 => frame::data(id, random.below(300), id & 1 == 0).to_vec(),
            2 => vec![b'x'; random.below(300)],
            3 => frame::reset(id, Status::Cancel),
            4 => frame::window_update(id, random.below(1 << 31) as u32),
            5 => frame::initial_window(random.below(1 << 31) as u32),
            6 => frame::go_away(id),
            _ => frame::ping(id),
        });
    }
    bytes
}

#[test]
fn frames_that_are_nearly_right() {
    let mut random = Random(0x5eed_5eed);
    for _ in 0..ROUNDS {
        let mut bytes = frames(&mut random);
        random.spoil(&mut bytes);
        spdy_frames(&bytes);
    }
}

#[test]
fn messages_that_are_nearly_right() {
    let mut random = Random(0xca11_ab1e);
    for _ in 0..ROUNDS {
        let mut bytes = vec![random.below(4) as u8];
        bytes.extend(
            [&b"0bHMK"[..], b"\x00ls\n", b"\xff\x00", b"4eyJXaWR0aCI6MX0="][random.below(4)],
        );
        random.spoil(&mut bytes);
        channel_protocol(&bytes);
    }
}
