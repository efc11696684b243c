//! The thread that owns the built-in network and visits pods' namespaces.

use std::{
    sync::mpsc::{Sender, channel},
    thread,
};

use tokio::sync::oneshot;

use super::{super::Error, Builtin};

type Job = Box<dyn FnOnce(&mut Builtin) + Send>;

/// The way to the thread; it ends when this is dropped.
pub(in super::super) struct Worker {
    jobs: Sender<Job>,
}

impl Worker {
    /// Starts the thread; it stays in the network namespace of the caller.
    pub(in super::super) fn start(mut builtin: Builtin) -> Result<Self, Error> {
        let (jobs, receiver) = channel::<Job>();
        let run = move || {
            for job in receiver {
                job(&mut builtin);
                if builtin.stranded {
                    tracing::error!("the network thread cannot leave a pod's namespace; it ends");
                    return;
                }
            }
        };
        thread::Builder::new()
            .name("network".to_owned())
            .spawn(run)
            .map_err(Error::kernel("start", "the network thread"))?;
        Ok(Self { jobs })
    }

    /// Does the work on the thread, also when the caller goes away meanwhile.
    pub(in super::super) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Builtin) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let (answer, outcome) = oneshot::channel();
        let job: Job = Box::new(move |builtin| {
            // A caller that has gone away does not want the answer.
            let _ = answer.send(work(builtin));
        });
        self.jobs.send(job).map_err(|_| Error::WorkerEnded)?;
        outcome.await.map_err(|_| Error::WorkerEnded)?
    }
}
