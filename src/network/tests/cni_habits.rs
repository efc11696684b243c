//! Configurations as the networks of clusters install them, and how they take each other's
//! place. What they mean is the business of their plugins, which are told it word by word.

use std::fs;

use serde_json::{Value, json};

use super::{
    cni::{Fake, pod, result},
    harness::on_a_host,
};

impl Fake {
    /// A plugin of this name, which answers ADD with addresses.
    fn install_as(&self, name: &str) {
        let target = self.path("bin").join(name);
        // A link shows by its name as whom the plugin is called.
        std::os::unix::fs::symlink("one", target).unwrap();
        self.answer(name, "ADD", &result("0.3.1"));
    }

    fn write(&self, file: &str, text: &str) {
        fs::write(self.path("net.d").join(file), text).unwrap();
    }

    /// The plugins that a pod's ADD comes to.
    fn added_by(&self) -> Vec<String> {
        self.told();
        let pod = pod();
        self.host.set_up(&pod);
        let calls = self.calls();
        self.host.tear_down(&pod);
        calls.into_iter().filter_map(|call| Some(call.strip_prefix("ADD ")?.to_owned())).collect()
    }
}

/// Files by their names, with one plugin or several.
fn known() -> [(&'static str, Value); 5] {
    let portmap = json!({"type": "portmap", "capabilities": {"portMappings": true}});
    [
        (
            "10-flannel.conflist",
            json!({"cniVersion": "0.3.1", "name": "cbr0", "plugins": [
                {"type": "flannel", "delegate": {"hairpinMode": true, "isDefaultGateway": true}},
                portmap,
            ]}),
        ),
        (
            "05-cilium.conflist",
            json!({"cniVersion": "0.3.1", "name": "cilium", "plugins": [
                {"type": "cilium-cni", "enable-debug": false, "log-file": "/var/run/cilium.log"},
            ]}),
        ),
        (
            "10-calico.conflist",
            json!({"cniVersion": "0.3.1", "name": "k8s-pod-network", "plugins": [
                {
                    "type": "calico", "datastore_type": "kubernetes", "mtu": 0,
                    "nodename_file_optional": false, "ipam": {"type": "calico-ipam"},
                    "container_settings": {"allow_ip_forwarding": false},
                    "policy": {"type": "k8s"}, "kubernetes": {"k8s_api_root": "https://x:443"},
                },
                portmap,
                {"type": "bandwidth", "capabilities": {"bandwidth": true}},
            ]}),
        ),
        (
            "00-multus.conf",
            json!({
                "cniVersion": "0.3.1", "name": "multus-cni-network", "type": "multus",
                "capabilities": {"portMappings": true, "bandwidth": true},
                "kubeconfig": "/etc/cni/net.d/multus.d/multus.kubeconfig",
                "delegates": [{"cniVersion": "0.3.1", "name": "cbr0", "plugins": [
                    {"type": "flannel"}, portmap,
                ]}],
            }),
        ),
        (
            "00-multus-shim.conf",
            json!({
                "cniVersion": "0.3.1", "name": "multus-cni-network", "type": "multus-shim",
                "capabilities": {"portMappings": true}, "logLevel": "verbose",
                "clusterNetwork": "/host/etc/cni/net.d/10-flannel.conflist",
                "daemonSocketDir": "/run/multus/socket/",
            }),
        ),
    ]
}

fn plugins_of(configuration: &Value) -> Vec<Value> {
    let list = configuration["plugins"].as_array().cloned();
    list.unwrap_or_else(|| vec![configuration.clone()])
}

/// What the pod of these tests has for plugins that ask for it.
fn expected(configuration: &Value, mut plugin: Value) -> Value {
    let object = plugin.as_object_mut().unwrap();
    object.insert("name".to_owned(), configuration["name"].clone());
    object.insert("cniVersion".to_owned(), configuration["cniVersion"].clone());
    let mut runtime = json!({});
    if let Some(capabilities) = object.remove("capabilities") {
        let ports =
            json!([{"hostPort": 5353, "containerPort": 53, "protocol": "udp", "hostIP": ""}]);
        let limit = json!({"egressRate": 10_000_000, "egressBurst": i32::MAX});
        for (name, value) in [("portMappings", ports), ("bandwidth", limit)] {
            if capabilities[name] == true {
                runtime[name] = value;
            }
        }
        object.insert("runtimeConfig".to_owned(), runtime);
    }
    plugin
}

#[test]
fn plugins_of_known_networks_are_told_their_configuration_word_by_word() {
    on_a_host(|| {
        let fake = Fake::new("1.0.0");
        fs::remove_file(fake.path("net.d/10-fake.conflist")).unwrap();
        for name in
            ["flannel", "portmap", "cilium-cni", "calico", "bandwidth", "multus", "multus-shim"]
        {
            fake.install_as(name);
        }
        for (file, configuration) in known() {
            fake.write(file, &configuration.to_string());
            let pod = pod();
            assert_eq!(fake.host.set_up(&pod).ips.len(), 2, "{file}");
            let told = fake.told();
            let plugins = plugins_of(&configuration);
            assert_eq!(told.len(), plugins.len(), "{file}");
            for (index, (told, plugin)) in told.iter().zip(plugins).enumerate() {
                let mut expected = expected(&configuration, plugin);
                if index > 0 {
                    expected["prevResult"] = result("0.3.1");
                }
                assert_eq!(told.configuration, expected, "{file}");
                for argument in ["IgnoreUnknown=1", "K8S_POD_NAME=pod-s1", "K8S_POD_UID=uid-s1"] {
                    assert!(told.variable("CNI_ARGS").contains(argument), "{file}");
                }
            }
            fake.host.tear_down(&pod);
            fake.told();
            fs::remove_file(fake.path("net.d").join(file)).unwrap();
        }
    });
}

#[test]
fn known_networks_take_each_others_place_while_the_daemon_runs() {
    on_a_host(|| {
        let fake = Fake::new("1.0.0");
        fs::remove_file(fake.path("net.d/10-fake.conflist")).unwrap();
        let known = known();
        let text = |file: &str| {
            let found = known.iter().find(|(name, _)| *name == file);
            found.unwrap().1.to_string()
        };
        for name in ["flannel", "portmap", "cilium-cni", "multus"] {
            fake.install_as(name);
        }
        let net = |file: &str| fake.path("net.d").join(file);
        fake.write("10-flannel.conflist", &text("10-flannel.conflist"));
        assert_eq!(fake.added_by(), ["flannel", "portmap"]);
        // Multus writes a file that comes first, and keeps its access to Kubernetes beside it.
        fs::create_dir(net("multus.d")).unwrap();
        fs::write(net("multus.d/multus.kubeconfig"), "apiVersion: v1").unwrap();
        fake.write("00-multus.conf", &text("00-multus.conf"));
        assert_eq!(fake.added_by(), ["multus"]);
        fs::remove_file(net("00-multus.conf")).unwrap();
        // Cilium writes beside its file first, and then puts the others out of the way.
        fake.write(".05-cilium.conflist123", &text("05-cilium.conflist")[..20]);
        assert_eq!(fake.added_by(), ["flannel", "portmap"]);
        fake.write(".05-cilium.conflist123", &text("05-cilium.conflist"));
        fs::rename(net(".05-cilium.conflist123"), net("05-cilium.conflist")).unwrap();
        fs::rename(net("10-flannel.conflist"), net("10-flannel.conflist.cilium_bak")).unwrap();
        assert_eq!(fake.added_by(), ["cilium-cni"]);
        // It goes, and says nothing of those that it put away.
        fs::remove_file(net("05-cilium.conflist")).unwrap();
        assert_eq!(fake.host.set_up(&pod()).network, "builtin");
    });
}
