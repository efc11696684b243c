//! An export as a stream of messages.

use std::{
    io::{self, BufWriter, Write},
    sync::Arc,
};

use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use super::v1::ExportImagesResponse;
use crate::image::ImageStore;

/// Bytes of one message.
const PART: usize = 256 << 10;
/// Messages that wait for the client.
const PARTS: usize = 4;

pub(super) type Stream = ReceiverStream<Result<ExportImagesResponse, Status>>;

/// Exports as fast as the client takes it; ends when the client goes away.
pub(super) fn export(images: Arc<ImageStore>, names: Vec<String>) -> Stream {
    let (sender, receiver) = mpsc::channel(PARTS);
    tokio::spawn(async move {
        let parts = sender.clone();
        let work = images.long_aside(move |images| {
            let mut sink = BufWriter::with_capacity(PART, Parts(parts));
            images.export(&names, &mut sink)
        });
        let exported = tokio::select! {
            exported = work => exported,
            // Without a client it ends with its next part, or before it has begun.
            () = sender.closed() => return,
        };
        if let Err(error) = exported {
            // Nobody is there to hear it where this fails.
            sender.send(Err(error.into())).await.ok();
        }
    });
    ReceiverStream::new(receiver)
}

struct Parts(mpsc::Sender<Result<ExportImagesResponse, Status>>);

impl Write for Parts {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let part = bytes[..bytes.len().min(PART)].to_vec();
        let length = part.len();
        let sent = self.0.blocking_send(Ok(ExportImagesResponse { part }));
        sent.map(|()| length).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
