//! What can be asked for.

use std::path::PathBuf;

use clap::Parser;

/// Measure a CRI runtime over its socket.
#[derive(Debug, Parser)]
pub struct Args {
    /// The runtime's socket.
    #[arg(long, default_value = "unix:///run/criquet/criquet.sock")]
    pub endpoint: String,
    /// The socket of a second runtime, measured in turn and compared with the first.
    #[arg(long)]
    pub compare: Option<String>,
    /// An image with `true` and `sleep`.
    #[arg(long, default_value = "docker.io/library/busybox:latest")]
    pub image: String,
    /// Pods of each kind whose life is timed.
    #[arg(long, default_value_t = 40)]
    pub count: usize,
    /// Execs that are timed in each kind of pod.
    #[arg(long, default_value_t = 100)]
    pub execs: usize,
    /// Pods that are started at once where parallel starts are measured.
    #[arg(long, default_value_t = 10)]
    pub parallel: usize,
    /// Pods that run where memory, lists and idleness are measured; 0 leaves that out.
    #[arg(long, default_value_t = 100)]
    pub density: usize,
    /// Seconds for which the runtime is watched doing nothing.
    #[arg(long, default_value_t = 10)]
    pub idle: u64,
    /// MiB that are sent through an exec of `cat`; 0 leaves streams out.
    #[arg(long, default_value_t = 256)]
    pub stream: usize,
    /// MiB that a container logs; 0 leaves logs out.
    #[arg(long, default_value_t = 512)]
    pub log: usize,
    /// Measure the network of pods and nothing else, with so many pods that run at the end.
    #[arg(long, default_value_t = 0)]
    pub network: usize,
    /// Measure how calls depend on the number of pods that run, and nothing else: up to so many.
    #[arg(long, default_value_t = 0)]
    pub scale: usize,
    /// Where the curves of that are drawn, as SVG.
    #[arg(long)]
    pub plot: Option<PathBuf>,
    /// A shell command that executes the first runtime's daemon (`exec`); with it the daemon is
    /// killed and started again, and the time until it answers is taken.
    #[arg(long)]
    pub restart: Option<String>,
    /// Pods that run while the daemon is started again.
    #[arg(long, default_value_t = 500)]
    pub restart_pods: usize,
    /// Containers that have ended by then, besides.
    #[arg(long, default_value_t = 0)]
    pub restart_ended: usize,
    /// The cgroup that all pods are put under. It must not be there yet.
    #[arg(long, default_value = "/criquet-bench")]
    pub cgroup_parent: PathBuf,
    /// An image that is removed and pulled cold; may be given several times.
    #[arg(long)]
    pub pull: Vec<String>,
    /// How often each of them is pulled.
    #[arg(long, default_value_t = 3)]
    pub pull_count: usize,
    /// How often the kernel's floor is measured; 0 leaves it out.
    #[arg(long, default_value_t = 200)]
    pub floor_count: usize,
    /// A static busybox, for the kernel's floor.
    #[arg(long, default_value = "/bin/busybox")]
    pub floor_program: PathBuf,
    /// Where the figures are written to as JSON.
    #[arg(long)]
    pub json: Option<PathBuf>,
    /// What this program gives itself to be the child side of the floor.
    #[arg(long, hide = true)]
    floor_directory: Option<PathBuf>,
    /// Given by cargo to every benchmark.
    #[arg(long, hide = true)]
    bench: bool,
}

/// What the child side of the floor is asked for.
#[derive(Debug)]
pub struct FloorRequest {
    /// How often.
    pub count: usize,
    /// The static busybox.
    pub program: PathBuf,
    /// A directory of its own.
    pub directory: PathBuf,
    /// The cgroup that the measured processes are charged to.
    pub cgroup: PathBuf,
}

impl Args {
    /// The request, when this process is the child side of the floor.
    pub fn floor_child(&self) -> Option<FloorRequest> {
        Some(FloorRequest {
            directory: self.floor_directory.clone()?,
            count: self.floor_count,
            program: self.floor_program.clone(),
            cgroup: self.cgroup_parent.clone(),
        })
    }
}
