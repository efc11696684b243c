//! Decompression: gzip members and zstd frames in any number and of any length, none included,
//! or no compression at all.
//!
//! What follows the last member decides as it does with Go's readers: another member, or the
//! stream is damaged. Zeros alone are taken for the padding that tapes and some tools leave.

use std::{
    io::{self, BufRead, Read},
    sync::Arc,
};

use flate2::bufread::GzDecoder;
use zstd::stream::raw::{DParameter, Decoder, InBuffer, Operation, OutBuffer};

use super::{
    format::{Format, LOOK_AHEAD},
    input::Input,
    program::Program,
    window::{LARGEST, Stop, Window, Windows},
};

/// No gzip stream is denser than this; a zstd stream that is holds no image.
pub(super) const RATIO: u64 = 1100;

/// What a decompression stays within.
#[derive(Clone)]
pub(in crate::image) struct Bounds {
    pub(in crate::image) windows: Arc<Windows>,
    pub(in crate::image) stop: Stop,
    /// So much may come out whatever went in.
    pub(in crate::image) always_allowed: u64,
    /// What decompresses in a process of its own; none for a thread of this one.
    pub(in crate::image) worker: Option<Program>,
}

/// Takes decompressed bytes.
pub(super) trait Sink {
    /// Where the next bytes go; never empty.
    fn space(&mut self) -> io::Result<&mut [u8]>;

    /// So many bytes of the space are filled.
    fn filled(&mut self, amount: usize);

    /// Hands on what there is.
    ///
    /// # Errors
    /// `BrokenPipe` when the reader has gone.
    fn flush(&mut self) -> io::Result<()>;

    /// Waits for a window of that size, which is held for as long as the answer.
    fn window(&mut self, size: u64) -> io::Result<Option<Window>>;
}

/// A window that nobody is given.
#[derive(Debug, thiserror::Error)]
#[error("its zstd window has {} MiB", self.0 >> 20)]
pub(super) struct WindowTooLarge(pub(super) u64);

/// Decompresses the source, which is read to its end, into the sink; gives it back.
pub(super) fn decode<R: Read>(source: R, sink: &mut impl Sink, bounds: &Bounds) -> io::Result<R> {
    let input = Input::new(source);
    let mut decoding = Decoding { input, sink, bounds, total: 0, frames: None };
    decoding.stream()?;
    decoding.sink.flush()?;
    Ok(decoding.input.into_inner())
}

struct Decoding<'a, R, S> {
    input: Input<R>,
    sink: &'a mut S,
    bounds: &'a Bounds,
    total: u64,
    /// The decoder of all zstd frames, with its window.
    frames: Option<Frames>,
}

struct Frames {
    decoder: Decoder<'static>,
    window: u64,
    _held: Option<Window>,
}

impl<R: Read, S: Sink> Decoding<'_, R, S> {
    fn stream(&mut self) -> io::Result<()> {
        let first = self.look()?;
        match first {
            Format::Plain => return self.plain(),
            Format::Unsupported(reason) => return Err(damaged(reason)),
            _ => {}
        }
        let is_gzip = first == Format::Gzip;
        loop {
            match self.look()? {
                Format::Gzip if is_gzip => self.member()?,
                Format::Zstd { window } if !is_gzip => self.frame(window)?,
                Format::Skippable { length } if !is_gzip => self.skip(length)?,
                Format::End => return Ok(()),
                _ => return self.padding(),
            }
        }
    }

    fn look(&mut self) -> io::Result<Format> {
        self.input.peek(LOOK_AHEAD).map(Format::of)
    }

    fn plain(&mut self) -> io::Result<()> {
        loop {
            let length = self.input.read(self.sink.space()?)?;
            if length == 0 {
                return Ok(());
            }
            self.made(length)?;
        }
    }

    fn member(&mut self) -> io::Result<()> {
        let mut total = self.total;
        let mut member = GzDecoder::new(&mut self.input);
        loop {
            let length = match member.read(self.sink.space()?) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                result => result?,
            };
            if length == 0 {
                self.total = total;
                return self.bounds.stop.check();
            }
            self.sink.filled(length);
            total += length as u64;
            self.bounds.check(total, member.get_ref().count())?;
        }
    }

    fn frame(&mut self, window: u64) -> io::Result<()> {
        let mut frames = self.decoder(window)?;
        loop {
            let piece = self.input.fill_buf()?;
            let is_end = piece.is_empty();
            let mut from = InBuffer::around(piece);
            let mut to = OutBuffer::around(self.sink.space()?);
            let hint = frames.decoder.run(&mut from, &mut to)?;
            let (consumed, length) = (from.pos(), to.pos());
            self.input.consume(consumed);
            self.made(length)?;
            if hint == 0 {
                frames.decoder.reinit()?;
                self.frames = Some(frames);
                return Ok(());
            }
            if is_end && length == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }

    /// The decoder of the frame before, where its window is large enough.
    fn decoder(&mut self, window: u64) -> io::Result<Frames> {
        if let Some(frames) = self.frames.take().filter(|frames| frames.window >= window) {
            return Ok(frames);
        }
        if window > LARGEST {
            return Err(io::Error::other(WindowTooLarge(window)));
        }
        let held = self.sink.window(window)?;
        let mut decoder = Decoder::new()?;
        decoder.set_parameter(DParameter::WindowLogMax(LARGEST.ilog2()))?;
        Ok(Frames { decoder, window, _held: held })
    }

    fn skip(&mut self, mut length: u64) -> io::Result<()> {
        while length > 0 {
            let piece = self.input.fill_buf()?.len() as u64;
            if piece == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let amount = piece.min(length);
            self.input.consume(amount as usize);
            length -= amount;
        }
        self.bounds.stop.check()
    }

    /// Zeros to the end.
    fn padding(&mut self) -> io::Result<()> {
        loop {
            let piece = self.input.fill_buf()?;
            if piece.iter().any(|byte| *byte != 0) {
                return Err(damaged("something else follows its compressed content"));
            }
            let length = piece.len();
            if length == 0 {
                return Ok(());
            }
            self.input.consume(length);
        }
    }

    fn made(&mut self, length: usize) -> io::Result<()> {
        self.sink.filled(length);
        self.total += length as u64;
        self.bounds.check(self.total, self.input.count())
    }
}

impl Bounds {
    /// Whether so much may have come of so many bytes, and somebody still wants it.
    pub(super) fn check(&self, made: u64, consumed: u64) -> io::Result<()> {
        if made > self.always_allowed && made / RATIO > consumed {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.stop.check()
    }
}

fn damaged(reason: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, reason)
}
