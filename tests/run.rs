//! `criquet run` and `criquet stop` as people call them: manifests, a real daemon, real pods.

mod common;

use std::{
    fs,
    io::{BufRead, BufReader, Lines, Write},
    path::Path,
    process::{Child, ChildStdout, Command, Output, Stdio},
};

use common::Node;
use criquet::{
    cri::v1,
    play::{Facts, Manifest, Plan},
};
use rustix::process::{Pid, Signal, kill_process};

/// `criquet` with the node's daemon, and volumes in the node's directory.
fn command(node: &Node, arguments: &[&str]) -> Command {
    let mut command = node.inside(env!("CARGO_BIN_EXE_criquet"));
    command.args(arguments).arg("--config").arg(node.path("config.toml"));
    command.arg("--directory").arg(node.path("run"));
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Runs a manifest to its end.
async fn run(node: &Node, manifest: &str) -> (Option<i32>, String, String) {
    let path = node.path("pod.yaml");
    fs::write(&path, manifest).unwrap();
    let output = output(command(node, &["run", path.to_str().unwrap()])).await;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (said, errors) = (text(&output.stdout), text(&output.stderr));
    println!("{said}{errors}");
    (output.status.code(), said, errors)
}

async fn output(mut command: Command) -> Output {
    tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap()
}

/// A pod in the foreground, and what it says line by line.
struct Running {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
    said: Vec<String>,
}

impl Running {
    fn start(node: &Node, manifest: &str) -> Self {
        let path = node.path("pod.yaml");
        fs::write(&path, manifest).unwrap();
        let mut command = command(node, &["run", path.to_str().unwrap()]);
        let mut child = command.stderr(Stdio::inherit()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines, said: Vec::new() }
    }

    /// Waits until it says this.
    #[track_caller]
    fn until(&mut self, wanted: &str) {
        for line in self.lines.by_ref() {
            let line = line.unwrap();
            println!("{line}");
            self.said.push(line.clone());
            if line.contains(wanted) {
                return;
            }
        }
        panic!("{wanted:?} is not in\n{}", self.said.join("\n"));
    }

    fn signal(&self, signal: Signal) {
        // `nsenter` has become the command.
        kill_process(Pid::from_raw(self.child.id() as i32).unwrap(), signal).unwrap();
    }

    /// Its exit code, and all that it has said.
    fn end(mut self) -> (Option<i32>, String) {
        self.said.extend(self.lines.by_ref().map(Result::unwrap));
        let status = self.child.wait().unwrap();
        println!("{}", self.said.join("\n"));
        (status.code(), self.said.join("\n"))
    }
}

/// Nothing of any pod is left: on the daemon, on the disk, in the mount table.
async fn assert_nothing_is_left(node: &mut Node) {
    assert!(node.pods(v1::PodSandboxFilter::default()).await.is_empty());
    let run = node.path("run");
    let left = fs::read_dir(run.join("pods")).into_iter().flatten().count();
    assert_eq!(left, 0, "directories of pods");
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!mounts.contains(run.to_str().unwrap()), "{mounts}");
}

fn pod(name: &str, container: &str, spec: &str) -> String {
    format!(
        "{{apiVersion: v1, kind: Pod, metadata: {{name: {name}}}, spec: {{{spec} containers: [\
         {{name: app, image: 'test:1', {container}}}]}}}}\n"
    )
}

#[test]
fn examples_are_understood() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/pods");
    let mut count = 0;
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.starts_with("# "), "{} says what it shows", path.display());
        let manifest = Manifest::read(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let plan = Plan::of(&manifest, &Facts::default());
        let plan = plan.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        assert_eq!(path.file_stem().unwrap().to_str().unwrap(), plan.name);
        count += 1;
    }
    assert!(count >= 10, "{count} examples");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_is_run_to_its_end_and_nothing_is_left() {
    requires_root!();
    let mut node = Node::start().await;
    let manifest = "
apiVersion: v1
kind: ConfigMap
metadata: {name: settings}
data: {COLOUR: red}
---
apiVersion: v1
kind: Secret
metadata: {name: key}
stringData: {token: t0ken}
---
apiVersion: v1
kind: Pod
metadata: {name: whole, labels: {tier: front}}
spec:
  restartPolicy: Never
  terminationGracePeriodSeconds: 5
  hostname: somebody
  hostAliases: [{ip: 192.0.2.7, hostnames: [database]}]
  securityContext: {fsGroup: 2000, runAsUser: 1000, runAsGroup: 1000, runAsNonRoot: true}
  initContainers:
  - name: first
    image: test:1
    command: [sh, -c, 'echo one > /shared/steps']
    volumeMounts: [{name: work, mountPath: /shared}]
  - name: side
    image: test:1
    restartPolicy: Always
    command: [sh, -c, \"trap 'echo side ends; exit 0' TERM; echo up > /shared/up; while :; do sleep 1 & wait; done\"]
    startupProbe: {exec: {command: [test, -e, /shared/up]}, periodSeconds: 1}
    volumeMounts: [{name: work, mountPath: /shared}]
  - name: second
    image: test:1
    command: [sh, -c, 'cat /shared/up >> /shared/steps']
    volumeMounts: [{name: work, mountPath: /shared}]
  containers:
  - name: main
    image: test:1
    command:
    - sh
    - -c
    - |
      cat /shared/steps
      echo \"$GREETING $COLOUR $IP\"
      cat /secret/deep/token; echo
      stat -c %a:%g /secret/deep/token /memory
      df /memory | tail -n 1 | tr -s ' '
      grep database /etc/hosts; hostname; id
      ls /art/bin/busybox
      echo $(cat /sys/fs/cgroup/memory.max /sys/fs/cgroup/memory/memory.limit_in_bytes 2> /dev/null)
      exit 3
    env:
    - {name: WHO, value: world}
    - {name: GREETING, value: hello $(WHO)}
    - {name: IP, valueFrom: {fieldRef: {fieldPath: status.podIP}}}
    envFrom: [{configMapRef: {name: settings}}]
    resources: {limits: {memory: 64Mi, cpu: 500m}}
    volumeMounts:
    - {name: work, mountPath: /shared}
    - {name: memory, mountPath: /memory}
    - {name: secret, mountPath: /secret}
    - {name: art, mountPath: /art}
  volumes:
  - {name: work, emptyDir: {}}
  - {name: memory, emptyDir: {medium: Memory, sizeLimit: 1Mi}}
  - {name: secret, secret: {secretName: key, items: [{key: token, path: deep/token, mode: 256}]}}
  - {name: art, image: {reference: 'test:1'}}
";
    let (code, said, _) = run(&node, manifest).await;
    assert_eq!(code, Some(3), "the exit code is that of the container");
    for line in [
        "main   | one",
        "main   | up",
        "main   | hello world red 10.88.0.",
        "main   | t0ken",
        "main   | 440:2000",
        "main   | 2777:2000",
        "main   | criquet-run 1024 ",
        "main   | 192.0.2.7\tdatabase",
        "main   | somebody",
        "groups=1000(user),2000",
        "main   | /art/bin/busybox",
        "main   | 67108864",
        "side   | side ends",
        "-- main has ended with 3",
    ] {
        assert!(said.contains(line), "{line:?} is not in\n{said}");
    }
    assert!(said.find("main has ended") < said.find("side ends"), "sidecars end last\n{said}");
    assert_nothing_is_left(&mut node).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_known_is_refused_before_anything_is_made() {
    requires_root!();
    let mut node = Node::start().await;
    let (code, _, errors) = run(&node, &pod("a", "livenesProbe: {}", "priorty: 1,")).await;
    assert_eq!(code, Some(1));
    for line in [
        "spec.containers[0].livenesProbe is not known here; did you mean livenessProbe?",
        "spec.priorty is not known here; did you mean priority?",
    ] {
        assert!(errors.contains(line), "{line:?} is not in\n{errors}");
    }
    assert!(!node.path("run").exists());
    let path = node.path("pod.yaml");
    fs::write(&path, pod("a", "", "tolerations: [],")).unwrap();
    let checked = output(command(&node, &["run", "--check", path.to_str().unwrap()])).await;
    let said = String::from_utf8_lossy(&checked.stdout).into_owned();
    assert_eq!(said, "-- spec.tolerations means nothing here\npod default/a can be run\n");
    let (code, _, errors) = run(&node, "{kind: Deployment}").await;
    assert_eq!(code, Some(1));
    assert!(errors.contains("Deployment need a cluster"), "{errors}");

    // What only the node knows.
    let host = "volumes: [{name: v, hostPath: {path: /nothing/here, type: Directory}}],";
    let (code, _, errors) = run(&node, &pod("a", "", host)).await;
    assert_eq!(code, Some(1));
    assert!(errors.contains("/nothing/here is not there, and must be a Directory"), "{errors}");
    let absent = pod("a", "imagePullPolicy: Never", "restartPolicy: Never,");
    let (code, said, _) = run(&node, &absent.replace("test:1", "absent:1")).await;
    assert_eq!(code, Some(128));
    assert!(said.contains("imagePullPolicy is Never; import it"), "{said}");
    let root = "securityContext: {runAsNonRoot: true}, restartPolicy: Never,";
    let (code, said, _) = run(&node, &pod("a", "", root)).await;
    assert_eq!(code, Some(128));
    assert!(said.contains("the image's user is root; set runAsUser"), "{said}");
    assert_nothing_is_left(&mut node).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn containers_are_started_again_as_kubelets_do_it() {
    requires_root!();
    let mut node = Node::start().await;
    let tries = "command: [sh, -c, 'echo x >> /c/n; echo try $(grep -c x /c/n); test $(grep -c x /c/n) -ge 2'],
        volumeMounts: [{name: c, mountPath: /c}]";
    let spec = "restartPolicy: OnFailure, volumes: [{name: c, emptyDir: {}}],";
    let (code, said, _) = run(&node, &pod("tries", tries, spec)).await;
    assert_eq!(code, Some(0));
    assert!(said.contains("app | try 1\n") && said.contains("app | try 2\n"), "{said}");
    assert!(said.contains("-- app is started again\n"), "{said}");

    let ill = "command: [sh, -c, \"trap 'exit 0' TERM; touch /tmp/well; while :; do sleep 1 & wait; done\"],
        startupProbe: {exec: {command: [test, -e, /tmp/well]}, periodSeconds: 1},
        readinessProbe: {exec: {command: [test, -e, /tmp/ready]}, periodSeconds: 1, failureThreshold: 1},
        livenessProbe: {exec: {command: [cat, /tmp/well]}, periodSeconds: 1, failureThreshold: 2}";
    let mut running = Running::start(&node, &pod("ill", ill, ""));
    running.until("app is started");
    let exec = |script: &str| command_in(&node, "ill/app", script);
    exec("touch /tmp/ready");
    running.until("app is ready");
    exec("rm /tmp/ready");
    running.until("app is not ready: test ended with 1");
    exec("rm /tmp/well");
    running.until("its liveness probe failed: cat ended with 1: cat: can't open '/tmp/well'");
    running.until("app is started again");
    running.signal(Signal::INT);
    let (code, _) = running.end();
    assert_eq!(code, Some(0));
    assert_nothing_is_left(&mut node).await;
}

fn command_in(node: &Node, container: &str, script: &str) {
    let mut command = node.inside(env!("CARGO_BIN_EXE_criquet"));
    command.arg("exec").arg("--config").arg(node.path("config.toml"));
    let status = command.args([container, "--", "sh", "-c", script]).status().unwrap();
    assert!(status.success(), "{script}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_served_page_hooks_and_the_end_by_a_signal() {
    requires_root!();
    let mut node = Node::start().await;
    let web = "command: [sh, -c, 'httpd -p 80 -h /www; trap \"echo ends; exit 0\" TERM; while :; do sleep 1 & wait; done'],
        ports: [{name: http, containerPort: 80, hostPort: 8080}],
        resources: {limits: {memory: 32Mi}},
        readinessProbe: {httpGet: {path: /, port: http}, periodSeconds: 1},
        livenessProbe: {tcpSocket: {port: http}, periodSeconds: 1, initialDelaySeconds: 1},
        lifecycle: {postStart: {exec: {command: [sh, -c, 'echo after > /proc/1/fd/1']}},
                    preStop: {exec: {command: [sh, -c, 'echo before > /proc/1/fd/1']}}},
        volumeMounts: [{name: page, mountPath: /www}]";
    let page = "---\n{apiVersion: v1, kind: ConfigMap, metadata: {name: page}, data: {index.html: it works}}\n";
    let spec =
        "volumes: [{name: page, configMap: {name: page}}], terminationGracePeriodSeconds: 20,";
    let mut running = Running::start(&node, &(pod("web", web, spec) + page));
    running.until("app is ready");
    let got = output({
        let mut command = node.inside("python3");
        command.args([
            "-c",
            "import urllib.request as r; print(r.urlopen('http://127.0.0.1:8080').read())",
        ]);
        command.stdout(Stdio::piped());
        command
    })
    .await;
    assert!(String::from_utf8_lossy(&got.stdout).contains("it works"), "{got:?}");
    let web = &node.pods(v1::PodSandboxFilter::default()).await[0].id;
    let limit = ["/sys/fs/cgroup/memory", "/sys/fs/cgroup"].iter().find_map(|root| {
        let cgroup = Path::new(root).join(&node.cgroup).join(web);
        let file = ["memory.limit_in_bytes", "memory.max"].map(|name| cgroup.join(name));
        file.iter().find_map(|file| fs::read_to_string(file).ok())
    });
    assert_eq!(limit.unwrap().trim(), "33554432", "the whole pod is limited");
    // A daemon that starts anew meanwhile is no end.
    node.kill_daemon();
    node.start_daemon().await;
    command_in(&node, "web/app", "echo still here > /proc/1/fd/1");
    running.until("app | still here");
    running.signal(Signal::INT);
    let (code, said) = running.end();
    assert_eq!(code, Some(0));
    assert!(said.contains("app | after"), "{said}");
    assert!(said.find("app | before") < said.find("app | ends"), "{said}");
    assert!(said.contains("app | before") && said.contains("app has ended with 0"), "{said}");
    assert_nothing_is_left(&mut node).await;

    let late = pod(
        "late",
        "command: [sleep, '1000']",
        "activeDeadlineSeconds: 1, terminationGracePeriodSeconds: 0,",
    );
    let (code, said, _) = run(&node, &late).await;
    assert_eq!(code, Some(1));
    assert!(said.contains("over its activeDeadlineSeconds"), "{said}");
    assert_nothing_is_left(&mut node).await;

    // One that does not want to end: the second ^C no longer waits.
    let deaf = "command: [sh, -c, \"trap '' TERM; echo deaf; while :; do sleep 1; done\"]";
    let mut running =
        Running::start(&node, &pod("deaf", deaf, "terminationGracePeriodSeconds: 600,"));
    running.until("app | deaf");
    running.signal(Signal::INT);
    running.signal(Signal::QUIT);
    let (_, said) = running.end();
    assert!(said.contains("app has ended with 137"), "{said}");
    assert_nothing_is_left(&mut node).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_in_the_background_is_stopped_by_name() {
    requires_root!();
    let mut node = Node::start().await;
    let manifest = pod(
        "quiet",
        "command: [sh, -c, 'echo up; exec sleep 1000']",
        "terminationGracePeriodSeconds: 0,",
    );
    let detached = async |node: &Node| {
        let mut command = command(node, &["run", "-d", "-"]);
        let manifest = manifest.clone();
        let started = tokio::task::spawn_blocking(move || {
            let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
            child.stdin.take().unwrap().write_all(manifest.as_bytes()).unwrap();
            let mut said = String::new();
            // What runs in the background has let go of this.
            std::io::Read::read_to_string(&mut child.stdout.take().unwrap(), &mut said).unwrap();
            (child.wait().unwrap().code(), said)
        });
        started.await.unwrap()
    };
    let (code, said) = detached(&node).await;
    assert_eq!(code, Some(0), "{said}");
    assert!(said.ends_with("quiet runs; `criquet stop quiet` ends it\n"), "{said}");
    let pods = node.pods(v1::PodSandboxFilter::default()).await;
    assert_eq!(pods[0].metadata.as_ref().unwrap().name, "quiet");
    let (code, _, errors) = run(&node, &manifest).await;
    assert_eq!(code, Some(1));
    assert!(errors.contains("runs already; end it with `criquet stop default/quiet`"), "{errors}");
    let stopped = output(command(&node, &["stop", "quiet"])).await;
    assert!(stopped.status.success(), "{stopped:?}");
    assert_nothing_is_left(&mut node).await;
    let absent = output(command(&node, &["stop", "quiet"])).await;
    assert_eq!(absent.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&absent.stderr).contains("no pod quiet was started"));

    // Nobody looks after it any more.
    detached(&node).await;
    let pods = node.pods(v1::PodSandboxFilter::default()).await;
    let supervisor = pods[0].annotations["io.criquet.run/supervisor"].split(':').next().unwrap();
    let pid = Pid::from_raw(supervisor.parse().unwrap()).unwrap();
    kill_process(pid, Signal::KILL).unwrap();
    let stopped = output(command(&node, &["stop", "default/quiet"])).await;
    assert!(stopped.status.success(), "{stopped:?}");
    assert_nothing_is_left(&mut node).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_daemon_there_is_one_of_its_own() {
    requires_root!();
    let mut node = Node::start().await;
    node.kill_daemon();
    let path = node.path("pod.yaml");
    fs::write(&path, pod("own", "command: [echo, alone]", "restartPolicy: Never,")).unwrap();
    let (path, image) = (path.display().to_string(), node.path("image.tar").display().to_string());
    let output = output(command(&node, &["run", &path, "--import", &image])).await;
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{output:?}");
    assert!(said.contains("app | alone"), "{said}");
    let run = node.path("run");
    for gone in ["criquet.sock", "criquet.toml", "state", "netns", "pods"] {
        assert!(!run.join(gone).exists(), "{gone}");
    }
    assert!(run.join("root").exists(), "images are kept");
    assert!(node.runs_inside("criquet").is_empty(), "the daemon has ended");
    let devices = node.inside("ip").args(["-br", "link"]).output().unwrap();
    let devices = String::from_utf8_lossy(&devices.stdout).into_owned();
    assert!(!devices.contains("cqrun"), "{devices}");
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!mounts.contains(run.to_str().unwrap()), "{mounts}");
    node.start_daemon().await;
}
