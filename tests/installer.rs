//! The steps of `deploy/installer`, on a directory that stands for a node. What would be executed
//! on the node is written down instead, by a script that answers as the test wants.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Output},
};

const SOCKET: &str = "unix:///run/criquet/criquet.sock";
const OLD: &str = "unix:///run/containerd/containerd.sock";

struct Tree {
    directory: tempfile::TempDir,
}

impl Tree {
    /// A node, and the files of the image.
    fn new() -> Self {
        let tree = Self { directory: tempfile::tempdir().unwrap() };
        for directory in ["host/etc/systemd/system", "host/var/lib/kubelet", "files"] {
            fs::create_dir_all(tree.path(directory)).unwrap();
        }
        let deploy = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy");
        for file in ["installer/installer.sh", "criquet.service", "config.toml"] {
            let name = Path::new(file).file_name().unwrap();
            fs::copy(deploy.join(file), tree.path("files").join(name)).unwrap();
        }
        tree.write("files/criquet", "the daemon");
        tree.write("files/criquet-monitor", "the monitor");
        tree.answer("");
        tree
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }

    /// Lets commands that match these patterns of a shell fail.
    fn answer(&self, failing: &str) {
        let failing = if failing.is_empty() { "nothing" } else { failing };
        let script = format!(
            "#!/bin/sh\necho \"$*\" >> {:?}\ncase \"$*\" in {failing}) exit 1;; esac\n",
            self.path("commands")
        );
        self.write("on-node", &script);
        let mode = fs::Permissions::from_mode(0o755);
        fs::set_permissions(self.path("on-node"), mode).unwrap();
    }

    fn run(&self, arguments: &[&str]) -> Output {
        let _ = fs::remove_file(self.path("commands"));
        self.command(arguments).output().unwrap()
    }

    fn command(&self, arguments: &[&str]) -> Command {
        // The shell of the image is that of busybox.
        let mut command = match std::env::var_os("CRIQUET_TEST_BUSYBOX") {
            Some(busybox) => {
                let mut command = Command::new(busybox);
                command.arg("sh");
                command
            }
            None => Command::new("sh"),
        };
        command
            .arg(self.path("files/installer.sh"))
            .args(arguments)
            .env("HOST", self.path("host"))
            .env("FILES", self.path("files"))
            .env("ON_NODE", self.path("on-node"));
        command
    }

    /// Does it, and returns what was executed on the node.
    fn commands(&self, arguments: &[&str]) -> Vec<String> {
        let output = self.run(arguments);
        assert!(output.status.success(), "{output:?}");
        let commands = fs::read_to_string(self.path("commands")).unwrap_or_default();
        commands.lines().map(str::to_owned).collect()
    }

    fn error(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert!(!output.status.success(), "{output:?}");
        String::from_utf8(output.stderr).unwrap()
    }
}

#[test]
fn files_and_service_are_installed_and_kept_as_they_are() {
    let tree = Tree::new();
    let inactive = "'systemctl is-active'*";
    tree.answer(inactive);
    let first = tree.commands(&["install"]);
    assert_eq!(
        first,
        [
            "/opt/criquet/criquet config validate",
            "/opt/criquet/criquet check",
            "systemctl daemon-reload",
            "systemctl enable criquet.service",
            "systemctl is-active criquet.service",
            "systemctl start criquet.service",
        ]
    );
    assert_eq!(tree.read("host/opt/criquet/criquet"), "the daemon");
    let mode = fs::metadata(tree.path("host/opt/criquet/criquet-monitor")).unwrap().permissions();
    assert_eq!(mode.mode() & 0o777, 0o755);
    let unit = tree.read("host/etc/systemd/system/criquet.service");
    assert!(unit.contains("\nExecStart=/opt/criquet/criquet serve\n"), "{unit}");
    let config = "host/etc/criquet/config.toml";
    assert_eq!(tree.read(config), tree.read("files/config.toml"));

    // Once more, with the service running: nothing is new, and nothing is started anew.
    tree.answer("");
    tree.write(config, "log_level = \"debug\"\n");
    let second = tree.commands(&["install"]);
    assert!(!second.iter().any(|line| line.contains("start")), "{second:?}");
    assert_eq!(tree.read(config), "log_level = \"debug\"\n");

    tree.write("files/criquet", "a newer daemon");
    let third = tree.commands(&["install"]);
    assert!(third.contains(&"systemctl restart criquet.service".to_owned()), "{third:?}");
    assert_eq!(tree.read("host/opt/criquet/criquet"), "a newer daemon");
}

#[test]
fn a_node_that_is_not_fit_is_left_alone() {
    let tree = Tree::new();
    tree.answer("*'criquet check'");
    let error = tree.error(&["install"]);
    assert!(error.contains("the service is not started"), "{error}");
    assert!(!tree.read("commands").contains("systemctl"));
    tree.answer("*validate");
    assert!(tree.error(&["install"]).contains("configuration of this node is wrong"));

    fs::create_dir_all(tree.path("host/usr/bin")).unwrap();
    tree.write("host/usr/bin/criquet", "of a package");
    assert!(tree.error(&["install"]).contains("from a package"));
    fs::remove_dir_all(tree.path("host/etc")).unwrap();
    assert!(tree.error(&["install"]).contains("mount it there"));
    assert!(tree.error(&["reinstall"]).contains("usage"));
}

#[test]
fn the_kubelet_is_pointed_here_and_back() {
    let flags = "host/var/lib/kubelet/kubeadm-flags.env";
    let config = "host/var/lib/kubelet/config.yaml";
    let flags_with = |endpoint: &str| {
        format!(
            "KUBELET_KUBEADM_ARGS=\"--container-runtime-endpoint={endpoint} --node-ip=10.0.0.1\"\n"
        )
    };
    let config_with = |endpoint: &str| {
        format!("kind: KubeletConfiguration\ncontainerRuntimeEndpoint: {endpoint}\n")
    };
    // Where the flag is given, it goes before the file.
    let cases: [(&str, String, String); 3] = [
        (flags, flags_with(OLD), flags_with(SOCKET)),
        (config, config_with(OLD), config_with(SOCKET)),
        (config, "kind: KubeletConfiguration\n".to_owned(), config_with(SOCKET)),
    ];
    for (file, before, after) in cases {
        let tree = Tree::new();
        tree.write(file, &before);
        let asked = tree.commands(&["switch"]);
        let asked = asked.last().unwrap();
        assert!(asked.starts_with("systemd-run --unit=criquet-switch"), "{asked}");
        assert_eq!(tree.read(file), before, "the pod itself changes nothing");

        let old = if before.contains(OLD) { OLD } else { "" };
        assert!(asked.trim_end().ends_with(format!("change {SOCKET} {old}").trim_end()), "{asked}");
        let done = tree.commands(&["change", SOCKET, old]);
        assert_eq!(tree.read(file), after);
        assert_eq!(done[0], "systemctl stop kubelet.service");
        let ended = format!("/opt/criquet/criquet reset --yes --endpoint {OLD}");
        assert_eq!(done.contains(&ended), !old.is_empty(), "{done:?}");
        assert_eq!(done.last().unwrap(), "systemctl start kubelet.service");

        // A second time there is nothing to do.
        let again = tree.commands(&["switch"]);
        assert!(!again.iter().any(|line| line.contains("systemd-run")), "{again:?}");

        let asked = tree.commands(&["uninstall"]);
        assert!(asked.last().unwrap().contains(&format!("leave {OLD}")), "{asked:?}");
        let done = tree.commands(&["leave", OLD]);
        assert!(tree.read(file).contains(OLD));
        assert!(done.contains(&"/opt/criquet/criquet reset --yes".to_owned()), "{done:?}");
        assert_eq!(done.last().unwrap(), "systemctl start kubelet.service");
        assert!(!tree.path("host/opt/criquet").exists());
    }
}

#[test]
fn a_kubelet_that_somebody_else_has_pointed_here_is_not_touched() {
    let tree = Tree::new();
    tree.write(
        "host/var/lib/kubelet/config.yaml",
        &format!("containerRuntimeEndpoint: {SOCKET}\n"),
    );
    tree.commands(&["install"]);
    assert!(tree.error(&["uninstall"]).contains("another runtime first"));
    assert!(tree.path("host/opt/criquet/criquet").exists());
    fs::remove_file(tree.path("host/var/lib/kubelet/config.yaml")).unwrap();
    let error = tree.error(&["switch"]);
    assert!(error.contains("--container-runtime-endpoint=unix:///run/criquet"), "{error}");
}

#[test]
fn what_is_installed_is_removed() {
    let tree = Tree::new();
    tree.commands(&["install"]);
    fs::create_dir_all(tree.path("host/var/lib/criquet/images")).unwrap();
    let done = tree.commands(&["uninstall"]);
    assert_eq!(
        done,
        [
            "systemctl disable --now criquet.service",
            "/opt/criquet/criquet reset --yes",
            "systemctl stop criquet.slice",
            "systemctl daemon-reload",
        ]
    );
    assert!(!tree.path("host/opt/criquet").exists());
    assert!(!tree.path("host/etc/systemd/system/criquet.service").exists());
    assert!(tree.path("host/var/lib/criquet/images").exists());
    assert!(tree.path("host/etc/criquet/config.toml").exists());
    assert!(tree.commands(&["uninstall"]).is_empty());

    tree.commands(&["install"]);
    fs::create_dir_all(tree.path("host/run/criquet")).unwrap();
    let output = tree.command(&["uninstall"]).env("DATA", "remove").output().unwrap();
    assert!(output.status.success(), "{output:?}");
    for gone in ["host/var/lib/criquet", "host/run/criquet", "host/etc/criquet"] {
        assert!(!tree.path(gone).exists(), "{gone}");
    }
}
