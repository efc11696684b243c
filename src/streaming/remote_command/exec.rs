//! A command of a client, from its streams to its exit code.

use std::{io, sync::Arc};

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::{client::Client, input, output::forward, resize, status::Outcome};
use crate::{
    pod::{Container, Exec, ExecRequest, Pods},
    streaming::{
        channel::Outgoing,
        descriptor::{Sink, Source},
        queue::Incoming,
    },
};

/// Runs the command for the client.
///
/// A client that vanishes ends its terminal, and with it what runs there. A command without one
/// goes on, as under containerd: its input ends, and its output is read and dropped.
pub async fn serve(pods: &Arc<Pods>, container: &Container, request: &ExecRequest, client: Client) {
    let terminal = request.terminal;
    let Client { stdin, stdout, stderr, resize, reporter, session } = client;
    let over = session.over();
    let mut streams = Streams::default();
    let started = match pods.exec(container, request).await {
        Ok(mut exec) => {
            let connected = streams.connect(&mut exec, [stdout, stderr], stdin, resize);
            connected.map(|()| exec).map_err(|error| error.to_string())
        }
        Err(error) => Err(crate::kind::chain(&error)),
    };
    let outcome = match started {
        Ok(exec) => tokio::select! {
            outcome = streams.outcome(exec) => Some(outcome),
            () = over.cancelled(), if terminal => None,
        },
        Err(reason) => {
            Some(Outcome::Failed(format!("error executing command in container: {reason}")))
        }
    };
    if let Some(outcome) = outcome {
        reporter.report(&outcome).await;
        session.close().await;
    }
}

/// The tasks between a process and its client; they end with this.
#[derive(Default)]
struct Streams {
    outputs: JoinSet<()>,
    inputs: JoinSet<()>,
    ended: CancellationToken,
}

impl Streams {
    fn connect(
        &mut self,
        exec: &mut Exec,
        outgoing: [Option<Outgoing>; 2],
        stdin: Option<Incoming>,
        sizes: Option<Incoming>,
    ) -> io::Result<()> {
        let outputs = [exec.stdout.take(), exec.stderr.take()];
        for (source, outgoing) in outputs.into_iter().zip(outgoing) {
            if let Some(source) = source {
                let source = Source::new(source)?;
                self.outputs.spawn(forward(source, outgoing, self.ended.clone()));
            }
        }
        if let (Some(terminal), Some(sizes)) = (&exec.terminal, sizes) {
            self.inputs.spawn(resize::follow(sizes, terminal.try_clone()?));
        }
        if let (Some(sink), Some(stdin)) = (exec.stdin.take(), stdin) {
            self.inputs.spawn(input::forward(stdin, Sink::new(sink)?));
        }
        Ok(())
    }

    /// Waits for the exit code, and until what was written before it has been sent.
    async fn outcome(&mut self, exec: Exec) -> Outcome {
        let exit = exec.exit.await;
        self.ended.cancel();
        while self.outputs.join_next().await.is_some() {}
        match exit {
            Ok(exit) => Outcome::Exited(exit.code),
            Err(_) => Outcome::Failed("the monitor of the pod is gone".to_owned()),
        }
    }
}
