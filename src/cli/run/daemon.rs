//! A daemon for pods that are run where none is: started with directories, a socket, a bridge and
//! cgroups of its own, and ended with the last pod.

use std::{
    fs::{self, File},
    io::{self, Read},
    os::unix::{fs::OpenOptionsExt, net::UnixStream, process::CommandExt},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    process::{Signal, pidfd_send_signal},
};
use sha2::{Digest, Sha256};

use super::{args::DIRECTORY, error::Error};
use crate::{
    admin::v1::{RemoveNetworkRequest, StatusRequest},
    cli::{self, config::Config, image::Client},
    cri::v1::ListPodSandboxRequest,
    sys::process::Identity,
};

/// How long it may take to answer, and to end.
const PATIENCE: Duration = Duration::from_secs(30);

/// Between two looks whether it answers.
const PAUSE: Duration = Duration::from_millis(10);

/// How much of its log is shown when it does not start.
const TAIL: usize = 2000;

/// The configuration of a daemon of its own below that directory: what an administrator has said,
/// and nothing that another daemon could have.
pub(super) fn config(directory: &Path, given: &Config) -> Config {
    let mut config = given.clone();
    let name = name(directory);
    config.root = directory.join("root");
    config.state = directory.join("state");
    config.listen = format!("unix://{}", directory.join("criquet.sock").display());
    config.netns_dir = directory.join("netns");
    config.cgroup_parent = Path::new("/").join(&name);
    config.image.root = None;
    // Nobody waits for its pods: none is kept ready.
    config.warm_monitors = 0;
    config.network.builtin = true;
    // A device's name has at most 15 characters.
    config.network.bridge = name.replace("criquet-run", "cqrun").replace('-', "");
    config.network.table = name;
    config.network.subnet_v4 = "10.87.0.0/16".parse().ok();
    config.network.subnet_v6 = "fd4a:6b1d:87::/64".parse().ok();
    config.cni.conf_dir = directory.join("cni");
    config.cni.cache_dir = directory.join("cni-cache");
    config.cni.conf_template = None;
    config.streaming.port = 0;
    config.metrics.listen = String::new();
    config
}

/// A name for what has no directory; that of another directory is another.
fn name(directory: &Path) -> String {
    if directory == Path::new(DIRECTORY) {
        return "criquet-run".to_owned();
    }
    let digest = Sha256::digest(directory.as_os_str().as_encoded_bytes());
    let digits: String = digest.iter().take(4).map(|byte| format!("{byte:02x}")).collect();
    format!("criquet-run-{digits}")
}

/// Starts it, unless it answers already, and waits until it does.
///
/// # Errors
/// When it does not come to answer, with the end of its log.
pub(super) fn start(directory: &Path, given: &Config) -> Result<Config, cli::Error> {
    let config = config(directory, given);
    if UnixStream::connect(config.socket()).is_ok() {
        return Ok(config);
    }
    let made = fs::DirBuilder::new().recursive(true).create(directory);
    made.map_err(Error::io("create directory", directory))?;
    let file = directory.join("criquet.toml");
    let text = toml::to_string(&config)?;
    fs::write(&file, text).map_err(Error::io("write", &file))?;
    let log = directory.join("daemon.log");
    let output = File::options().create(true).write(true).truncate(true).mode(0o600).open(&log);
    let output = output.map_err(Error::io("create", &log))?;
    let errors = output.try_clone().map_err(Error::io("open", &log))?;
    let program = PathBuf::from("/proc/self/exe");
    let mut child = Command::new(&program)
        .args(["serve", "--config"])
        .arg(&file)
        .stdin(Stdio::null())
        .stdout(output)
        .stderr(errors)
        // ^C is for the pod, which ends before its daemon.
        .process_group(0)
        .spawn()
        .map_err(Error::io("execute", &program))?;
    wait_for(&mut child, &config, &log)?;
    Ok(config)
}

/// A socket tells nobody that it is there: it is looked for.
fn wait_for(child: &mut Child, config: &Config, log: &Path) -> Result<(), Error> {
    let end = Instant::now() + PATIENCE;
    while UnixStream::connect(config.socket()).is_err() {
        let ended = child.try_wait().map_err(Error::io("wait for", log))?;
        if ended.is_some() || Instant::now() > end {
            // One that is there and does not answer is of no use.
            let _ = child.kill();
            return Err(Error::Start { log: log.to_owned(), tail: tail(log) });
        }
        std::thread::sleep(PAUSE);
    }
    Ok(())
}

fn tail(log: &Path) -> String {
    let mut text = String::new();
    let read = File::open(log).and_then(|mut file| file.read_to_string(&mut text));
    match read {
        Ok(_) => {
            let from = text.char_indices().rev().nth(TAIL).map_or(0, |(at, _)| at);
            text[from..].trim_end().to_owned()
        }
        Err(error) => error.to_string(),
    }
}

/// Ends the daemon of that directory where no pod is left, with its bridge and its cgroup.
///
/// # Errors
/// When it cannot be asked, or does not end.
pub(super) fn end(directory: &Path, client: Client) -> Result<(), cli::Error> {
    let pods = client.ask(client.pods().list_pod_sandbox(ListPodSandboxRequest::default()))?;
    if !pods.items.is_empty() {
        return Ok(());
    }
    let status = client.ask(client.admin().status(StatusRequest {}))?;
    // Without a pod there may be no network.
    let _ = client.ask(client.admin().remove_network(RemoveNetworkRequest {}));
    let failed = |error| Error::io("end the daemon of", directory)(error);
    let identity = match Identity::of(status.pid) {
        Ok(identity) => identity,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed(error).into()),
    };
    let pidfd = identity.open().map_err(failed)?;
    // It waits for those who are connected.
    drop(client);
    pidfd_send_signal(&pidfd, Signal::TERM).map_err(|errno| failed(errno.into()))?;
    let limit = Timespec { tv_sec: PATIENCE.as_secs().cast_signed(), tv_nsec: 0 };
    let mut waited = [PollFd::new(&pidfd, PollFlags::IN)];
    if poll(&mut waited, Some(&limit)).map_err(|errno| failed(errno.into()))? == 0 {
        return Err(failed(io::ErrorKind::TimedOut.into()).into());
    }
    remove_cgroups(&name(directory));
    // All of it but the images, which the next pod may want.
    for name in ["state", "netns", "pods", "criquet.toml"] {
        let path = directory.join(name);
        let _ = if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
    }
    Ok(())
}

/// The empty cgroup that its pods were in, in each hierarchy.
fn remove_cgroups(name: &str) {
    let root = Path::new(crate::runtime::cgroup::ROOT);
    let hierarchies = fs::read_dir(root).into_iter().flatten().flatten();
    for parent in hierarchies.map(|entry| entry.path()).chain([root.to_owned()]) {
        // One that is not empty, or not there, is none of ours.
        let _ = fs::remove_dir(parent.join(name));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn its_names_are_nobody_elses() {
        let given = Config::default();
        let usual = config(Path::new(DIRECTORY), &given);
        assert_eq!(usual.network.bridge, "cqrun");
        assert_eq!(usual.cgroup_parent, Path::new("/criquet-run"));
        let other = config(Path::new("/elsewhere"), &given);
        assert_ne!(other.network.bridge, usual.network.bridge);
        assert!(other.network.bridge.len() <= 15, "{}", other.network.bridge);
        for own in [&usual, &other] {
            assert!(own.validate().is_empty(), "{:?}", own.validate());
            assert_ne!(own.network.subnet_v4, given.network.subnet_v4);
            assert_ne!(own.root, given.root);
        }
    }
}
