//! ExecSync.

use prost::Message;
use tonic::{Response, Status, metadata::AsciiMetadataValue};

use super::RuntimeServer;
use crate::{cri::v1, pod::ExecOutput};

/// What the kubelet and crictl take in one message.
const LONGEST: usize = 16 << 20;

/// What a message has besides the two streams.
const AROUND: usize = 64;

/// How many bytes a command has written to a stream of which the end is missing.
const WRITTEN: [&str; 2] = ["criquet-stdout-bytes", "criquet-stderr-bytes"];

impl RuntimeServer {
    pub(super) async fn exec_sync(
        &self,
        request: v1::ExecSyncRequest,
    ) -> Result<Response<v1::ExecSyncResponse>, Status> {
        let container = self.pods.container(&request.container_id)?;
        let output = self.pods.exec_sync(&container, &request.cmd, request.timeout).await?;
        Ok(answer(output))
    }
}

/// The beginning of both streams, as much as clients take. What is cut is told in metadata, as
/// the message has no word for it.
fn answer(output: ExecOutput) -> Response<v1::ExecSyncResponse> {
    let ExecOutput { mut stdout, mut stderr, written, exit_code } = output;
    let room = LONGEST - AROUND;
    let half = room / 2;
    match (stdout.len() > half, stderr.len() > half) {
        (true, true) => {
            stdout.truncate(half);
            stderr.truncate(half);
        }
        (true, false) => stdout.truncate(room - stderr.len()),
        (false, true) => stderr.truncate(room - stdout.len()),
        (false, false) => {}
    }
    let kept = [stdout.len(), stderr.len()];
    let mut answer = Response::new(v1::ExecSyncResponse { stdout, stderr, exit_code });
    debug_assert!(answer.get_ref().encoded_len() <= LONGEST);
    for ((key, written), kept) in WRITTEN.into_iter().zip(written).zip(kept) {
        if written > kept as u64 {
            answer.metadata_mut().insert(key, AsciiMetadataValue::from(written));
        }
    }
    answer
}

#[cfg(test)]
mod tests {
    use prost::Message;

    use super::{LONGEST, answer};
    use crate::pod::ExecOutput;

    #[test]
    fn a_message_is_what_clients_take_and_says_what_is_missing() {
        let megabyte = 1 << 20;
        for (stdout, stderr, cut) in [
            (megabyte, megabyte, [false, false]),
            (15 * megabyte, megabyte / 2, [false, false]),
            (16 * megabyte, 0, [true, false]),
            (16 * megabyte, 16 * megabyte, [true, true]),
            (megabyte, 16 * megabyte, [false, true]),
        ] {
            let answer = answer(ExecOutput {
                stdout: vec![b'o'; stdout],
                stderr: vec![b'e'; stderr],
                written: [stdout as u64, stderr as u64],
                exit_code: -1,
            });
            let length = answer.get_ref().encoded_len();
            assert!(length <= LONGEST);
            assert!(!cut.contains(&true) || length + 128 > LONGEST, "no more than must be");
            let told = |key| answer.metadata().get(key).map(|value| value.to_str().unwrap());
            let whole = [stdout, stderr].map(|length| length.to_string());
            assert_eq!(told("criquet-stdout-bytes"), cut[0].then_some(whole[0].as_str()));
            assert_eq!(told("criquet-stderr-bytes"), cut[1].then_some(whole[1].as_str()));
        }
    }
}
