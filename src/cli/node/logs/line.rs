//! Lines of the CRI's logs: a time, a stream, `F` or `P` for a part, and the text.

/// A stream of a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::cli) enum Stream {
    Stdout,
    Stderr,
}

/// A line, or a part of one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::cli) struct Line {
    /// RFC 3339, as it was logged.
    pub time: String,
    pub stream: Stream,
    /// More of it follows.
    pub is_part: bool,
    pub text: Vec<u8>,
}

impl Line {
    /// A line without its end; none where it is no line of such a log.
    pub(super) fn parse(line: &[u8]) -> Option<Self> {
        let mut parts = line.splitn(4, |byte| *byte == b' ');
        let (time, stream, tags) = (parts.next()?, parts.next()?, parts.next()?);
        let text = parts.next().unwrap_or_default();
        Some(Self {
            time: String::from_utf8(time.to_vec()).ok()?,
            stream: match stream {
                b"stdout" => Stream::Stdout,
                b"stderr" => Stream::Stderr,
                _ => return None,
            },
            // Tags beyond the first are for later versions.
            is_part: tags.split(|byte| *byte == b':').next()? == b"P",
            text: text.to_vec(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::{Line, Stream};

    #[test]
    fn lines_of_a_log() {
        let whole = Line::parse(b"2026-12-01T09:30:00.5Z stdout F two  words").unwrap();
        assert_eq!(whole.text, b"two  words");
        assert_eq!((whole.stream, whole.is_part), (Stream::Stdout, false));
        let part = Line::parse(b"2026-12-01T09:30:00.5Z stderr P:x \xff").unwrap();
        assert_eq!((part.stream, part.is_part, part.text), (Stream::Stderr, true, vec![0xff]));
        assert_eq!(Line::parse(b"t stdout F ").unwrap().text, b"");
        assert_eq!(Line::parse(b"t stdout F").unwrap().text, b"");
        for wrong in [&b""[..], b"word", b"t stdin F x"] {
            assert_eq!(Line::parse(wrong), None);
        }
    }
}
