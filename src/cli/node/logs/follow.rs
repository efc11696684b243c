//! A log file as it grows, through rotations: one that was renamed is read to its end before
//! the new one of its name.

use std::{
    fs::{self, File},
    io::{self, Read},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use futures_util::StreamExt;
use inotify::{Inotify, WatchMask};

use super::line::Line;

/// Bytes that are read at once.
const PIECE: usize = 64 << 10;

/// The most bytes of a line that is kept until its end comes; the runtime cuts at 16 KiB.
const LONGEST: usize = 1 << 20;

/// A log file that is read piece by piece.
pub(in crate::cli) struct Log {
    path: PathBuf,
    file: Option<File>,
    pending: Vec<u8>,
    /// Nobody takes more.
    is_closed: bool,
}

impl Log {
    /// The log at this path, from its beginning; it need not be there yet.
    pub(in crate::cli) fn new(path: &Path) -> Self {
        Self { path: path.to_owned(), file: None, pending: Vec::new(), is_closed: false }
    }

    /// Opens it where it is.
    ///
    /// # Errors
    /// What the kernel refuses.
    pub(super) fn open(&mut self) -> io::Result<()> {
        self.file = Some(File::open(&self.path)?);
        Ok(())
    }

    /// All lines that are there now and were not read before, as long as they are taken.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub(in crate::cli) fn read(&mut self, mut take: impl FnMut(Line) -> bool) -> io::Result<()> {
        loop {
            self.read_one(&mut take)?;
            if self.is_closed || !self.has_next()? {
                return Ok(());
            }
            // What has no end in the old file gets none.
            self.pending.clear();
            self.open()?;
        }
    }

    fn read_one(&mut self, take: &mut impl FnMut(Line) -> bool) -> io::Result<()> {
        let Some(file) = &mut self.file else { return Ok(()) };
        let mut piece = vec![0; PIECE];
        loop {
            let count = file.read(&mut piece)?;
            if count == 0 {
                return Ok(());
            }
            self.pending.extend_from_slice(&piece[..count]);
            let mut rest = self.pending.as_slice();
            while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
                if let Some(line) = Line::parse(&rest[..end])
                    && !take(line)
                {
                    self.is_closed = true;
                    return Ok(());
                }
                rest = &rest[end + 1..];
            }
            let taken = self.pending.len() - rest.len();
            self.pending.drain(..taken);
            if self.pending.len() > LONGEST {
                self.pending.clear();
            }
        }
    }

    /// Whether another file has the name now.
    fn has_next(&self) -> io::Result<bool> {
        let now = match fs::metadata(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            now => now?,
        };
        let Some(file) = &self.file else { return Ok(true) };
        let own = file.metadata()?;
        Ok((own.dev(), own.ino()) != (now.dev(), now.ino()))
    }

    /// Hands on lines as they come, until the container has ended and all is read, or nobody
    /// takes more.
    ///
    /// # Errors
    /// When the file cannot be read or watched.
    pub(in crate::cli) async fn follow(
        mut self,
        ended: impl Future<Output = ()>,
        mut take: impl FnMut(Line) -> bool,
    ) -> io::Result<()> {
        let directory = self.path.parent().unwrap_or(Path::new("/"));
        let inotify = Inotify::init()?;
        let mask = WatchMask::CREATE | WatchMask::MODIFY | WatchMask::MOVED_TO;
        inotify.watches().add(directory, mask)?;
        let mut events = inotify.into_event_stream(vec![0; PIECE])?;
        let mut ended = std::pin::pin!(ended);
        let mut is_over = false;
        loop {
            self.read(&mut take)?;
            if is_over || self.is_closed {
                return Ok(());
            }
            tokio::select! {
                event = events.next() => drop(event.transpose()?),
                () = &mut ended => is_over = true,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, io::Write};

    use super::Log;

    #[tokio::test]
    async fn a_log_is_followed_through_a_rotation_to_the_end() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("0.log");
        let append = |path: &std::path::Path, text: &str| {
            let mut file = fs::File::options().create(true).append(true).open(path).unwrap();
            file.write_all(text.as_bytes()).unwrap();
        };
        let (sender, mut texts) = tokio::sync::mpsc::unbounded_channel();
        let (end, ended) = tokio::sync::oneshot::channel::<()>();
        let take =
            move |line: super::Line| sender.send(String::from_utf8(line.text).unwrap()).is_ok();
        let log = Log::new(&path);
        let following = tokio::spawn(log.follow(async { drop(ended.await) }, take));
        append(&path, "t stdout F one\nt stdout F tw");
        assert_eq!(texts.recv().await.unwrap(), "one");
        append(&path, "o\n");
        assert_eq!(texts.recv().await.unwrap(), "two");
        fs::rename(&path, directory.path().join("0.log.1")).unwrap();
        append(&directory.path().join("0.log.1"), "t stdout F three\n");
        append(&path, "t stdout F four\n");
        assert_eq!(texts.recv().await.unwrap(), "three");
        assert_eq!(texts.recv().await.unwrap(), "four");
        append(&path, "t stdout F five\n");
        end.send(()).unwrap();
        assert_eq!(texts.recv().await.unwrap(), "five");
        following.await.unwrap().unwrap();
        assert_eq!(texts.recv().await, None);
    }
}
