//! Output of containers, from pipes and terminals to log files.

use super::Server;
use crate::monitor::{
    container::Phase,
    sources::{Meaning, Token},
};

/// How much output is read at once, in bytes.
const OUTPUT_CHUNK: usize = 16 * 1024;

impl Server {
    /// Reads once. Returns whether there may be more now.
    pub(super) fn output(&mut self, token: Token, id: &str, stream: usize) -> bool {
        let (Some(fd), Some(container)) = (self.sources.fd(token), self.containers.get_mut(id))
        else {
            return false;
        };
        self.buffer.resize(OUTPUT_CHUNK, 0);
        match rustix::io::read(fd, &mut self.buffer[..]) {
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => return false,
            Ok(length @ 1..) => {
                container.closed_terminal = None;
                if let Some(log) = &mut container.log {
                    // A full disk loses lines; it must not stop the program.
                    let _ = log.write(stream, &self.buffer[..length]);
                }
                if !container.readers.is_empty() {
                    self.show(id, stream, length);
                }
                return true;
            }
            // The last program has closed the terminal. A getty opens it again.
            Err(rustix::io::Errno::IO)
                if container.terminal && !matches!(container.phase, Phase::Exited { .. }) =>
            {
                self.terminal_closed(id, token);
                return false;
            }
            Ok(0) | Err(_) => {}
        }
        if let Some(log) = &mut container.log {
            let _ = log.end(stream);
        }
        container.closed_terminal = None;
        container.outputs.retain(|&other| other != token);
        if matches!(container.phase, Phase::Exited { .. }) {
            container.let_go();
        }
        self.sources.remove(token);
        self.end_readers(id, |reader| reader.stream == stream);
        false
    }

    /// Reads what is left in the pipes of a container that has ended, so that its log is
    /// whole when its end is known. Whoever still writes does not hold this up: what comes
    /// later is read when it comes.
    pub(super) fn drain(&mut self, id: &str) {
        /// The most that a pipe holds is 1 MiB (`/proc/sys/fs/pipe-max-size`).
        const MOST_CHUNKS: usize = (1 << 20) / OUTPUT_CHUNK;
        let outputs = self.containers.get(id).map(|c| c.outputs.clone()).unwrap_or_default();
        for token in outputs {
            let Some(Meaning::Output(_, stream)) = self.sources.meaning(token) else { continue };
            let mut chunks = 0;
            while chunks < MOST_CHUNKS && self.output(token, id, stream) {
                chunks += 1;
            }
        }
        self.buffer = Vec::new();
    }
}
