//! Files of results: what they tell a daemon that has lost its database, and what of others
//! they keep it from.

use std::fs;

use serde_json::{Value, json};

use super::{
    cni::{Fake, pod, result},
    harness::{block_on, on_a_host},
};

impl Fake {
    /// The daemon comes back and finds no database.
    fn lose_the_database(&mut self) {
        for file in ["state.db", "state.db-wal", "state.db-shm"] {
            let _ = fs::remove_file(self.path(file));
        }
        self.host.restart();
        self.told();
    }

    /// The file that was written for the pod of these tests.
    fn file(&self) -> Value {
        let text = fs::read(self.path("cache/results/fake-s1-eth0")).unwrap();
        serde_json::from_slice(&text).unwrap()
    }

    /// A file of an attachment to the same network that somebody else has written.
    fn write_file(&self, sandbox: &str, root: Option<&str>) {
        let mut entry = self.file();
        let fields = entry.as_object_mut().unwrap();
        fields.insert("containerId".to_owned(), json!(sandbox));
        match root {
            Some(root) => fields.insert("criquetRoot".to_owned(), json!(root)),
            None => fields.remove("criquetRoot"),
        };
        let path = self.path("cache/results").join(format!("fake-{sandbox}-eth0"));
        fs::write(path, entry.to_string()).unwrap();
    }

    fn files(&self) -> Vec<String> {
        let entries = fs::read_dir(self.path("cache/results")).unwrap();
        let name = |entry: std::io::Result<fs::DirEntry>| entry.unwrap().file_name();
        let mut names: Vec<String> =
            entries.map(|entry| name(entry).into_string().unwrap()).collect();
        names.sort();
        names
    }

    fn collect_garbage(&self, live: &[&str]) -> Result<(), crate::network::Error> {
        let live: Vec<String> = live.iter().map(|&id| id.to_owned()).collect();
        block_on(self.host.network.collect_garbage(&live))
    }
}

#[test]
fn a_lost_pod_is_detached_by_the_file_of_its_result_and_nobody_elses() {
    on_a_host(|| {
        let mut fake = Fake::new("1.0.0");
        fake.host.set_up(&pod());
        let added = fake.told().remove(1);
        fake.write_file("of-containerd", None);
        fake.write_file("of-another-daemon", Some("/var/lib/other"));
        fs::write(fake.path("cache/results/of-old-times"), result("1.0.0").to_string()).unwrap();
        fs::write(fake.path("cache/results/broken"), "{").unwrap();
        fs::write(fake.path("cache/results/fake-s1-eth0.new"), "{").unwrap();
        fake.lose_the_database();
        // The configuration of then counts.
        fs::remove_dir_all(fake.path("net.d")).unwrap();
        fake.collect_garbage(&[]).unwrap();
        let told = fake.told();
        let calls: Vec<&str> = told.iter().map(|told| told.call.as_str()).collect();
        assert_eq!(calls, ["DEL two", "DEL one"]);
        let removed = &told[0];
        assert_eq!(removed.configuration["prevResult"], result("1.0.0"));
        for key in ["runtimeConfig", "name", "cniVersion", "type"] {
            assert_eq!(removed.configuration[key], added.configuration[key], "{key}");
        }
        for variable in ["CNI_CONTAINERID", "CNI_IFNAME", "CNI_ARGS", "CNI_PATH"] {
            assert_eq!(removed.variable(variable), added.variable(variable));
        }
        assert_eq!(removed.variable("CNI_NETNS"), "", "it is gone with the pod");
        let left = ["broken", "fake-of-another-daemon-eth0", "fake-of-containerd-eth0"];
        assert_eq!(fake.files()[..3], left);
        fake.collect_garbage(&[]).unwrap();
        assert!(fake.calls().is_empty(), "once");
    });
}

#[test]
fn a_pod_that_lives_or_is_recorded_keeps_what_its_file_tells_of() {
    on_a_host(|| {
        let mut fake = Fake::new("1.0.0");
        fake.host.set_up(&pod());
        fake.told();
        fake.collect_garbage(&[]).unwrap();
        assert!(fake.calls().is_empty(), "this daemon has made it");
        fake.lose_the_database();
        fake.collect_garbage(&["s1"]).unwrap();
        assert!(fake.calls().is_empty(), "it lives");
        assert_eq!(fake.files(), ["fake-s1-eth0"]);
    });
}

#[test]
fn a_lost_pod_that_cannot_be_detached_is_tried_again() {
    on_a_host(|| {
        let mut fake = Fake::new("1.0.0");
        fake.host.set_up(&pod());
        fake.lose_the_database();
        fake.fail("one", "DEL", &json!({"code": 100, "msg": "on purpose"}));
        let error = fake.collect_garbage(&[]).unwrap_err();
        assert!(error.to_string().contains("on purpose"), "{error}");
        assert_eq!(fake.files(), ["fake-s1-eth0"]);
        fake.recover("one", "DEL");
        fake.told();
        fake.host.restart();
        fake.collect_garbage(&[]).unwrap();
        assert_eq!(fake.calls(), ["DEL two", "DEL one"]);
        assert!(fake.files().is_empty());
    });
}

#[test]
fn attachments_of_others_are_valid_where_plugins_collect_garbage() {
    on_a_host(|| {
        let fake = Fake::new("1.1.0");
        fake.host.set_up(&pod());
        fake.write_file("of-containerd", None);
        fake.told();
        fake.collect_garbage(&["s1"]).unwrap();
        let told = fake.told();
        assert_eq!(told[0].call, "GC one");
        let valid = json!([
            {"containerID": "s1", "ifname": "eth0"},
            {"containerID": "of-containerd", "ifname": "eth0"},
        ]);
        assert_eq!(told[0].configuration["cni.dev/valid-attachments"], valid);
    });
}
