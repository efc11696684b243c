//! What the kernel alone needs for a pod and for an exec.
//!
//! [`measure`] executes this program anew as a process of one thread, which may clone and go
//! on in the child; that process is [`child`], and prints what it found.

use std::{
    ffi::CString,
    fs, io,
    os::unix::{ffi::OsStrExt, fs::symlink},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use criquet::sys::{
    clone::{Cloned, SingleThreaded, clone3},
    exec::{execve, exit},
};
use rustix::{
    mount::{
        FsMountFlags, FsOpenFlags, MountAttrFlags, MountPropagationFlags, MoveMountFlags,
        UnmountFlags, fsconfig_create, fsconfig_set_string, fsmount, fsopen, mount_change,
        move_mount, unmount,
    },
    process::{WaitOptions, fchdir, pivot_root, waitpid},
};
use serde::{Deserialize, Serialize};

use crate::{
    args::{Args, FloorRequest},
    measure::{Floor, millis, percentile},
    usage::Hierarchy,
};

/// Times in milliseconds.
#[derive(Debug, Serialize, Deserialize)]
pub struct Bare {
    /// Each one's.
    pub times: Vec<f64>,
    /// The CPU time of one, on average.
    pub cpu: f64,
}

/// The kernel's figures.
#[derive(Debug, Serialize, Deserialize)]
pub struct Figures {
    /// A bare pod.
    pub pod: Bare,
    /// A bare exec.
    pub exec: Bare,
}

impl Figures {
    /// The figure to compare with.
    pub fn get(&self, floor: Floor) -> f64 {
        let median = |bare: &Bare| percentile(&bare.times, 0.5).unwrap_or(f64::NAN);
        match floor {
            Floor::PodTime => median(&self.pod),
            Floor::PodCpu => self.pod.cpu,
            Floor::ExecTime => median(&self.exec),
            Floor::ExecCpu => self.exec.cpu,
        }
    }
}

/// Executes the child side and reads what it found.
pub fn measure(args: &Args) -> anyhow::Result<Figures> {
    let program = &args.floor_program;
    ensure!(program.exists(), "there is no {}; give --floor-program", program.display());
    let hierarchy = Hierarchy::find()?;
    let cgroup = PathBuf::from(format!("{}-floor", args.cgroup_parent.display()));
    let directory =
        std::env::temp_dir().join(format!("criquet-bench-floor-{}", std::process::id()));
    hierarchy.create(&cgroup)?;
    fs::create_dir_all(&directory)?;
    let output = Command::new(std::env::current_exe()?)
        .args(["--floor-count", &args.floor_count.to_string()])
        .arg("--floor-program")
        .arg(program)
        .arg("--floor-directory")
        .arg(&directory)
        .arg("--cgroup-parent")
        .arg(&cgroup)
        .stderr(Stdio::inherit())
        .output();
    let _ = fs::remove_dir_all(&directory);
    let _ = fs::remove_dir(hierarchy.directory(&cgroup));
    let output = output?;
    ensure!(output.status.success(), "the child side failed");
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// The child side.
pub fn child(request: &FloorRequest) -> anyhow::Result<()> {
    let proof = SingleThreaded::prove()?;
    let hierarchy = Hierarchy::find()?;
    fs::write(hierarchy.directory(&request.cgroup).join("cgroup.procs"), "0")?;
    let lower = request.directory.join("lower");
    fs::create_dir_all(lower.join("bin"))?;
    fs::copy(&request.program, lower.join("bin/busybox"))?;
    symlink("busybox", lower.join("bin/true"))?;
    let program = lower.join("bin/true");

    let repeat = |work: &dyn Fn(usize) -> anyhow::Result<()>| -> anyhow::Result<Bare> {
        for round in 0..3 {
            work(round)?;
        }
        let before = hierarchy.cpu(&request.cgroup)?;
        let mut times = Vec::new();
        for round in 3..request.count + 3 {
            let start = Instant::now();
            work(round)?;
            times.push(millis(start.elapsed()));
        }
        let cpu: Duration = hierarchy.cpu(&request.cgroup)?.saturating_sub(before);
        Ok(Bare { times, cpu: millis(cpu) / request.count.max(1) as f64 })
    };
    let pod = repeat(&|round| pod(&proof, &request.directory, round))?;
    let exec = repeat(&|_| {
        let status = Command::new(&program).status()?;
        ensure!(status.success(), "true ended with {status}");
        Ok(())
    })?;
    println!("{}", serde_json::to_string(&Figures { pod, exec })?);
    Ok(())
}

/// A process in namespaces and a root of its own, and its end.
fn pod(proof: &SingleThreaded, directory: &Path, round: usize) -> anyhow::Result<()> {
    let own = directory.join(round.to_string());
    for name in ["upper", "work", "root"] {
        fs::create_dir_all(own.join(name))?;
    }
    let flags = libc::CLONE_NEWNS
        | libc::CLONE_NEWUTS
        | libc::CLONE_NEWIPC
        | libc::CLONE_NEWPID
        | libc::CLONE_NEWNET;
    match clone3(proof, flags, None).context("clone3")? {
        Cloned::Child => {
            let error = become_true(directory, &own);
            eprintln!("the floor's child: {error}");
            exit(1)
        }
        Cloned::Parent { pid, .. } => {
            let status = waitpid(Some(pid), WaitOptions::empty())?.context("no status")?.1;
            ensure!(status.exit_status() == Some(0), "the child ended with {status:?}");
        }
    }
    Ok(())
}

fn become_true(directory: &Path, own: &Path) -> io::Error {
    let run = || -> io::Result<()> {
        mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?;
        let overlay = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
        for (key, value) in [
            ("lowerdir", directory.join("lower")),
            ("upperdir", own.join("upper")),
            ("workdir", own.join("work")),
        ] {
            fsconfig_set_string(&overlay, key, value.as_os_str().as_bytes())?;
        }
        fsconfig_create(&overlay)?;
        let root = fsmount(&overlay, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())?;
        let target = own.join("root");
        let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
        move_mount(&root, "", rustix::fs::CWD, target.as_path(), flags)?;
        fchdir(&root)?;
        pivot_root(".", ".")?;
        unmount(".", UnmountFlags::DETACH)?;
        Ok(())
    };
    if let Err(error) = run() {
        return error;
    }
    match CString::new("/bin/true") {
        Ok(program) => execve(&program, std::slice::from_ref(&program), &[]),
        Err(error) => error.into(),
    }
}
