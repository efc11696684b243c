//! CRI log files: `TIME STREAM P|F TEXT` for each line, or part of one that is too long.
//!
//! What a program writes is kept byte for byte: the texts of its parts, and of the full line
//! that ends them, are what it wrote. Memory is bounded by the longest line. A container can
//! have been given the directory of logs: what it puts there leads to no file elsewhere, and
//! a FIFO at the place of a log stops nobody.

use std::{
    fs::File,
    io::{self, Write},
    os::fd::AsFd,
    path::{Path, PathBuf},
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use rustix::fs::{Mode, OFlags};

use super::rate::{Rate, Verdict};
use crate::sys::path::Root;

/// The longest text in one line of a log, in bytes, as under containerd.
const MAX_LINE: usize = 16 * 1024;

/// What is gathered before it is written, in bytes.
const BATCH: usize = 16 * 1024;

const STREAMS: [&str; 2] = ["stdout", "stderr"];

/// The log of a container.
#[derive(Debug)]
pub(super) struct Log {
    /// Open as long as the log: what lies at its path later may be somebody else's.
    directory: File,
    /// Relative to the directory.
    path: PathBuf,
    file: File,
    /// Whether lines end as a terminal ends them, with a carriage return that is none of theirs.
    terminal: bool,
    /// The unfinished line of each stream.
    pending: [Vec<u8>; 2],
    /// Lines that are not written yet; empty between calls.
    batch: Vec<u8>,
    /// How much of it is written; none for all.
    rate: Option<Rate>,
}

impl Log {
    /// Opens the log at `path`, which lies beneath `directory`.
    pub(super) fn open(
        directory: &Path,
        path: &Path,
        terminal: bool,
        rate: Option<Rate>,
    ) -> io::Result<Self> {
        let path = path.strip_prefix(directory).unwrap_or(path).to_owned();
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let directory = File::from(rustix::fs::open(directory, flags, Mode::empty())?);
        let file = open(&directory, &path)?;
        let (pending, batch) = ([Vec::new(), Vec::new()], Vec::new());
        Ok(Self { directory, path, file, terminal, pending, batch, rate })
    }

    /// Opens the file anew, after somebody moved it away. Keeps the old one on failure.
    pub(super) fn reopen(&mut self) -> io::Result<()> {
        self.file = open(&self.directory, &self.path)?;
        Ok(())
    }

    /// Takes what a stream brought. Lines are in the file when this returns.
    pub(super) fn write(&mut self, stream: usize, mut data: &[u8]) -> io::Result<()> {
        let time = timestamp(SystemTime::now());
        let mut result = Ok(());
        while !data.is_empty() {
            let room = MAX_LINE - self.pending[stream].len();
            // One byte more than there is room for: it may be the end of a full line.
            let window = &data[..data.len().min(room + 1)];
            match window.iter().position(|&byte| byte == b'\n') {
                Some(end) => {
                    self.line(&time, stream, "F", &data[..end]);
                    data = &data[end + 1..];
                }
                None if window.len() > room => {
                    self.line(&time, stream, "P", &data[..room]);
                    data = &data[room..];
                }
                None => {
                    self.pending[stream].extend_from_slice(window);
                    data = &[];
                }
            }
            if self.batch.len() >= BATCH {
                result = result.and(self.flush());
            }
        }
        result.and(self.flush())
    }

    /// The end of a stream: what it left unfinished is a part that no line ends.
    pub(super) fn end(&mut self, stream: usize) -> io::Result<()> {
        let time = timestamp(SystemTime::now());
        if !self.pending[stream].is_empty() {
            self.line(&time, stream, "P", &[]);
        }
        if let Some(report) = self.rate.as_mut().and_then(Rate::report) {
            self.add(&time, stream, "F", report.as_bytes());
        }
        self.flush()
    }

    /// A line, or a part of one, with what came before it, where there is room for it.
    fn line(&mut self, time: &str, stream: usize, tag: &str, text: &[u8]) {
        let Some(rate) = &mut self.rate else { return self.add(time, stream, tag, text) };
        let before = std::mem::take(&mut self.pending[stream]);
        // Three blanks and the end of the line.
        let around = time.len() + STREAMS[stream].len() + tag.len() + 4;
        let bytes = (around + before.len() + text.len()) as u64;
        let (report, is_written) = match rate.judge(bytes, Instant::now()) {
            Verdict::Write => (None, true),
            Verdict::WriteAfter(report) => (Some(report), true),
            Verdict::Drop => (None, false),
            Verdict::DropAfter(report) => (Some(report), false),
        };
        // It ends a line of which a part was written.
        if let Some(report) = report {
            self.add(time, stream, "F", report.as_bytes());
        }
        if is_written {
            self.pending[stream] = before;
            self.add(time, stream, tag, text);
        }
    }

    fn add(&mut self, time: &str, stream: usize, tag: &str, text: &[u8]) {
        let Self { batch, pending, terminal, .. } = self;
        for part in [time, " ", STREAMS[stream], " ", tag, " "] {
            batch.extend_from_slice(part.as_bytes());
        }
        let start = batch.len();
        batch.append(&mut pending[stream]);
        batch.extend_from_slice(text);
        if *terminal && tag == "F" && batch.len() > start && batch.ends_with(b"\r") {
            batch.pop();
        }
        batch.push(b'\n');
        if pending[stream].capacity() > 0 {
            pending[stream] = Vec::new();
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        let result = write_whole(&mut self.file, &self.batch);
        // On a full disk the lines are lost; holding them would stop the program or grow.
        self.batch.clear();
        self.batch.shrink_to(BATCH + MAX_LINE);
        result
    }
}

fn open(directory: &File, path: &Path) -> io::Result<File> {
    let file = Root::new(directory.as_fd()).append(path, Mode::from_raw_mode(0o640))?;
    Ok(file.into())
}

/// Writes all lines or, when the disk is full, none: a part of one would spoil the next.
fn write_whole(file: &mut File, lines: &[u8]) -> io::Result<()> {
    let mut written = 0;
    while written < lines.len() {
        match file.write(&lines[written..]) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(length) => written += length,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => {
                let length = file.metadata()?.len();
                file.set_len(length.saturating_sub(written as u64))?;
                return Err(error);
            }
        }
    }
    Ok(())
}

/// RFC 3339 with nanoseconds, in UTC.
fn timestamp(time: SystemTime) -> String {
    let since_epoch = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    let (seconds, nanoseconds) = (since_epoch.as_secs(), since_epoch.subsec_nanos());
    let (year, month, day) = date_of(seconds / 86_400);
    let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{nanoseconds:09}Z")
}

/// The Gregorian date of a number of days since 1970-01-01. Years are counted from March, so
/// that the day which comes every four years is the last of one.
fn date_of(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, of_era) = (days / 146_097, days % 146_097);
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    (era * 400 + year + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        os::unix::fs::symlink,
        time::{Duration, UNIX_EPOCH},
    };

    use rustix::fs::{CWD, FileType};

    use super::{Log, MAX_LINE, timestamp};
    use crate::monitor::rate::Rate;

    fn log() -> (tempfile::TempDir, Log) {
        let directory = tempfile::tempdir().unwrap();
        let log =
            Log::open(directory.path(), &directory.path().join("0.log"), false, None).unwrap();
        (directory, log)
    }

    /// Stream, tag and text of each line.
    fn lines(directory: &tempfile::TempDir, name: &str) -> Vec<(String, String, String)> {
        fs::read_to_string(directory.path().join(name))
            .unwrap()
            .lines()
            .map(|line| {
                let mut parts = line.splitn(4, ' ').skip(1).map(str::to_owned);
                (parts.next().unwrap(), parts.next().unwrap(), parts.next().unwrap())
            })
            .collect()
    }

    #[test]
    fn times_are_rfc_3339() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00.000000007Z"),
            (951_782_400, "2000-02-29T00:00:00.000000007Z"),
            (1_735_689_599, "2024-12-31T23:59:59.000000007Z"),
            (4_107_542_400, "2100-03-01T00:00:00.000000007Z"),
        ] {
            assert_eq!(timestamp(UNIX_EPOCH + Duration::new(seconds, 7)), text);
        }
    }

    #[test]
    fn a_line_that_comes_in_pieces_is_one_line() {
        let (directory, mut log) = log();
        log.write(0, b"one\ntw").unwrap();
        log.write(1, b"other\n").unwrap();
        log.write(0, b"o\n").unwrap();
        let text = |s: &str, t: &str, x: &str| (s.to_owned(), t.to_owned(), x.to_owned());
        assert_eq!(
            lines(&directory, "0.log"),
            [text("stdout", "F", "one"), text("stderr", "F", "other"), text("stdout", "F", "two")]
        );
    }

    #[test]
    fn long_lines_are_split_and_lose_nothing() {
        let (directory, mut log) = log();
        let long: String =
            (0..MAX_LINE * 2 + 5).map(|i| char::from(b'a' + (i % 26) as u8)).collect();
        for chunk in format!("{long}\nend").as_bytes().chunks(1000) {
            log.write(0, chunk).unwrap();
        }
        log.end(0).unwrap();
        let lines = lines(&directory, "0.log");
        let tags: Vec<_> = lines.iter().map(|(_, tag, _)| tag.as_str()).collect();
        assert_eq!(tags, ["P", "P", "F", "P"]);
        let text: String = lines[..3].iter().map(|(.., text)| text.as_str()).collect();
        assert_eq!(text, long);
        assert_eq!(lines[3].2, "end");
    }

    #[test]
    fn a_line_that_fills_the_buffer_is_whole() {
        let (directory, mut log) = log();
        log.write(0, &vec![b'x'; MAX_LINE]).unwrap();
        log.write(0, b"\n\n").unwrap();
        let lines = lines(&directory, "0.log");
        let tags: Vec<_> = lines.iter().map(|(_, tag, x)| (tag.as_str(), x.len())).collect();
        assert_eq!(tags, [("F", MAX_LINE), ("F", 0)]);
        log.write(0, &vec![b'x'; MAX_LINE + 1]).unwrap();
        log.write(0, b"\n").unwrap();
        let lines = self::lines(&directory, "0.log");
        let tags: Vec<_> = lines[2..].iter().map(|(_, tag, x)| (tag.as_str(), x.len())).collect();
        assert_eq!(tags, [("P", MAX_LINE), ("F", 1)]);
    }

    #[test]
    fn lines_of_a_terminal_have_no_carriage_return() {
        let directory = tempfile::tempdir().unwrap();
        let mut log =
            Log::open(directory.path(), std::path::Path::new("0.log"), true, None).unwrap();
        for chunk in ["one\r", "\ntwo\r\n\r\na\rb\n"] {
            log.write(0, chunk.as_bytes()).unwrap();
        }
        let text = fs::read(directory.path().join("0.log")).unwrap();
        let ends = [" F one\n", " F two\n", " F \n", " F a\rb\n"];
        let lines: Vec<_> = text.split_inclusive(|&byte| byte == b'\n').collect();
        assert_eq!(lines.len(), ends.len());
        for (line, end) in lines.iter().zip(ends) {
            assert!(line.ends_with(end.as_bytes()), "{}", String::from_utf8_lossy(line));
        }
    }

    #[test]
    fn a_log_directory_that_is_exchanged_leads_nowhere() {
        let outer = tempfile::tempdir().unwrap();
        let (directory, far) = (outer.path().join("logs"), outer.path().join("far"));
        fs::create_dir(&directory).unwrap();
        fs::create_dir(&far).unwrap();
        let mut log = Log::open(&directory, std::path::Path::new("0.log"), false, None).unwrap();
        fs::rename(&directory, outer.path().join("moved")).unwrap();
        symlink(&far, &directory).unwrap();
        log.reopen().unwrap();
        assert_eq!(fs::read_dir(&far).unwrap().count(), 0);
        assert!(Log::open(&directory, std::path::Path::new("1.log"), false, None).is_err());
    }

    #[test]
    fn a_log_is_a_file_beneath_its_directory() {
        let outer = tempfile::tempdir().unwrap();
        let directory = outer.path().join("logs");
        fs::create_dir(&directory).unwrap();
        fs::create_dir(outer.path().join("far")).unwrap();
        fs::write(outer.path().join("far/0.log"), "").unwrap();
        symlink(outer.path().join("far"), directory.join("linked")).unwrap();
        symlink(outer.path().join("far/0.log"), directory.join("0.log")).unwrap();
        let fifo = directory.join("fifo");
        rustix::fs::mknodat(CWD, &fifo, FileType::Fifo, 0o666.into(), 0).unwrap();
        let reader = fs::File::options().read(true).write(true).open(&fifo).unwrap();
        for path in ["linked/0.log", "linked/1.log", "0.log", "fifo"] {
            assert!(Log::open(&directory, &directory.join(path), false, None).is_err(), "{path}");
        }
        drop(reader);
        assert!(Log::open(&directory, &fifo, false, None).is_err());
        assert_eq!(fs::read_dir(outer.path().join("far")).unwrap().count(), 1);
    }

    #[test]
    fn a_flood_is_dropped_and_the_log_says_how_much() {
        let directory = tempfile::tempdir().unwrap();
        let rate = Rate::new(1, 0, std::time::Instant::now());
        let path = std::path::Path::new("0.log");
        let mut log = Log::open(directory.path(), path, false, rate).unwrap();
        for _ in 0..100 {
            // Long enough for parts.
            log.write(0, &[&vec![b'x'; MAX_LINE + 10][..], b"\nnext\n"].concat()).unwrap();
        }
        log.end(0).unwrap();
        let lines = lines(&directory, "0.log");
        let size: usize = lines.iter().map(|(.., text)| text.len()).sum();
        assert!(size < 70_000, "{size}");
        let told: Vec<_> = lines.iter().filter(|(.., text)| text.contains("criquet")).collect();
        assert_eq!(told.len(), 2, "{told:?}");
        assert!(told[0].2.contains("missing from here on"), "{told:?}");
        assert!(lines.last().unwrap().2.contains("bytes are missing here"), "{told:?}");
        // A part is never followed by the beginning of another line.
        let follows = lines.windows(2).all(|pair| pair[0].1 == "F" || pair[1].2 != "next");
        assert!(follows && lines.iter().all(|(_, tag, text)| tag == "F" || text.len() == MAX_LINE));
    }

    #[test]
    fn rotation_tears_no_line() {
        let (directory, mut log) = log();
        log.write(0, b"a\nb").unwrap();
        fs::rename(directory.path().join("0.log"), directory.path().join("0.log.1")).unwrap();
        log.reopen().unwrap();
        log.write(0, b"c\n").unwrap();
        assert_eq!(lines(&directory, "0.log.1")[0].2, "a");
        assert_eq!(lines(&directory, "0.log")[0].2, "bc");
    }
}
