//! The targets of the fuzzers for a moment, with a seed that is fixed: frames and messages
//! that are nearly right.

mod common;

use common::random::Random;
use criquet::{
    fuzz::{channel_protocol, spdy_frames},
    streaming::spdy::{
        frame::{self, Status},
        headers::{Deflater, Headers},
    },
};

const ROUNDS: u64 = 20_000;

const SAMPLES: [&[u8]; 4] = [b"0bHMK", b"\x00ls\n", b"\xff\x00", b"4eyJXaWR0aCI6MX0="];

fn frames(random: &mut Random) -> Vec<u8> {
    let mut deflater = Deflater::default();
    let mut bytes = vec![random.below(256) as u8];
    for _ in 0..random.below(12) {
        let id = random.below(9) as u32;
        bytes.extend(match random.below(8) {
            0 => {
                let kind = random.pick(&["data", "error", "stdin"]);
                frame::open(id, &deflater.block(&Headers::from([("streamType", kind)])))
            }
            1 => frame::data(id, random.below(300) as usize, id & 1 == 0).to_vec(),
            2 => vec![b'x'; random.below(300) as usize],
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
    let mut random = Random::new(0x5eed_5eed);
    for _ in 0..ROUNDS {
        let bytes = frames(&mut random);
        spdy_frames(&bytes);
        spdy_frames(&random.mutation(&[&bytes]));
    }
}

#[test]
fn messages_that_are_nearly_right() {
    let mut random = Random::new(0xca11_ab1e);
    for _ in 0..ROUNDS {
        let mut bytes = vec![random.below(4) as u8];
        bytes.extend(random.pick(&SAMPLES));
        channel_protocol(&random.mutation(&[&bytes]));
    }
}
