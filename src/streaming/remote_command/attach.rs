//! A client at a running container, from its streams to its detaching.

use std::{io, sync::Arc};

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::{
    client::{Client, Wanted},
    input,
    output::forward,
    resize,
    status::Outcome,
};
use crate::{
    pod::{Attachment, Container, Pods},
    streaming::{
        channel::Outgoing,
        descriptor::{Sink, Source},
        queue::Incoming,
    },
};

/// Shows the client what the container writes from now on, and gives the container what the
/// client types, until the container ends or the client goes.
///
/// The end of the client's input detaches it, as under containerd. Where the container's input
/// is for one client only, that input ends with it; without a terminal the client then goes on
/// to see the output.
pub async fn serve(pods: &Arc<Pods>, container: &Container, wanted: Wanted, client: Client) {
    let Client { stdin, stdout, stderr, resize, reporter, session } = client;
    let over = session.over();
    let outcome = match pods.attach(container, wanted.stdin, wanted.stdout, wanted.stderr).await {
        Ok(mut attachment) => {
            let mut streams = Streams::default();
            match streams.connect(&mut attachment, [stdout, stderr], stdin, resize) {
                Err(error) => failed(&error.to_string()),
                Ok(()) => tokio::select! {
                    outcome = streams.outcome(pods, container, attachment) => outcome,
                    () = over.cancelled() => {
                        pods.detach(container, wanted.stdin).await;
                        return;
                    }
                },
            }
        }
        Err(error) => failed(&crate::kind::chain(&error)),
    };
    reporter.report(&outcome).await;
    session.close().await;
}

fn failed(reason: &str) -> Outcome {
    Outcome::Failed(format!("error attaching to container: {reason}"))
}

/// The tasks between a container and a client; they end with this.
#[derive(Default)]
struct Streams {
    outputs: JoinSet<()>,
    input: JoinSet<()>,
    sizes: JoinSet<()>,
}

impl Streams {
    fn connect(
        &mut self,
        attachment: &mut Attachment,
        outgoing: [Option<Outgoing>; 2],
        stdin: Option<Incoming>,
        sizes: Option<Incoming>,
    ) -> io::Result<()> {
        let outputs = [attachment.stdout.take(), attachment.stderr.take()];
        for (source, outgoing) in outputs.into_iter().zip(outgoing) {
            if let Some(source) = source {
                let source = Source::new(source)?;
                self.outputs.spawn(forward(source, outgoing, CancellationToken::new()));
            }
        }
        if let (Some(terminal), Some(sizes)) = (&attachment.terminal, sizes) {
            self.sizes.spawn(resize::follow(sizes, terminal.try_clone()?));
        }
        if let (Some(sink), Some(stdin)) = (attachment.stdin.take(), stdin) {
            self.input.spawn(input::forward(stdin, Sink::new(sink)?));
        }
        Ok(())
    }

    async fn outcome(
        &mut self,
        pods: &Pods,
        container: &Container,
        attachment: Attachment,
    ) -> Outcome {
        let closes = attachment.closes_input && attachment.terminal.is_none();
        loop {
            tokio::select! {
                Some(_) = self.input.join_next() => {
                    pods.detach(container, true).await;
                    if !closes {
                        return Outcome::Exited(0);
                    }
                }
                // Without output there is the end of the container to wait for.
                Some(_) = self.outputs.join_next(), if !self.outputs.is_empty() => {
                    if self.outputs.is_empty() {
                        break;
                    }
                }
                () = container.ended(), if self.outputs.is_empty() => break,
            }
        }
        match attachment.was_cut_off() {
            true => failed(
                "the container writes faster than this client reads, which was cut off so as not \
                 to hold up the container; attach again, or read its log",
            ),
            false => Outcome::Exited(0),
        }
    }
}
