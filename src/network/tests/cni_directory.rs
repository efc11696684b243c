//! The directory of CNI configurations as it changes, templates, and old versions.

use std::fs;

use serde_json::json;

use super::{
    cni::{Fake, pod},
    harness::{Host, Pod, block_on, on_a_host},
};
use crate::kind::Kind;

fn network(name: &str) -> String {
    json!({"cniVersion": "1.0.0", "name": name, "plugins": [{"type": "one"}]}).to_string()
}

#[test]
fn the_directory_is_followed_whatever_becomes_of_it() {
    on_a_host(|| {
        let mut fake = Fake::new("1.0.0");
        fake.host.options.builtin = false;
        fake.host.restart();
        let directory = fake.path("net.d");
        fs::remove_dir_all(&directory).unwrap();
        let not_ready = |part: &str| {
            let error = block_on(fake.host.network.status()).unwrap_err();
            assert_eq!(error.kind(), Kind::FailedPrecondition);
            assert!(error.to_string().contains(part), "{part}: {error}");
        };
        let serves = |name: &str| {
            block_on(fake.host.network.status()).unwrap();
            assert_eq!(fake.host.set_up(&pod()).network, name);
        };
        not_ready("install a CNI network there");
        fs::create_dir(&directory).unwrap();
        not_ready("net.d");
        // A file as it is while somebody writes it.
        fs::write(directory.join("10-a.conflist"), &network("a")[..20]).unwrap();
        not_ready("10-a.conflist");
        fs::write(directory.join("10-a.conflist"), network("a")).unwrap();
        serves("a");
        fs::write(directory.join(".05-b"), network("b")).unwrap();
        serves("a");
        fs::rename(directory.join(".05-b"), directory.join("05-b.conf")).unwrap();
        serves("b");
        // A broken one before others does not take them away.
        fs::write(directory.join("01-c.conf"), "{").unwrap();
        serves("b");
        fs::remove_dir_all(&directory).unwrap();
        not_ready("net.d");
        // Another directory in its place, as configuration maps are mounted.
        fs::create_dir(fake.path("elsewhere")).unwrap();
        fs::write(fake.path("elsewhere/10-d.conflist"), network("d")).unwrap();
        std::os::unix::fs::symlink(fake.path("elsewhere"), &directory).unwrap();
        serves("d");
        fs::remove_file(&directory).unwrap();
        fs::write(&directory, "").unwrap();
        not_ready("net.d");
    });
}

#[test]
fn a_pod_has_as_many_networks_as_it_may() {
    on_a_host(|| {
        let mut fake = Fake::new("1.0.0");
        fake.host.options.cni_max_conf = 2;
        fake.host.restart();
        for (file, name) in [("10-fake.conflist", "a"), ("20-b.conflist", "b"), ("30-c", "c")] {
            fs::write(fake.path("net.d").join(file), network(name)).unwrap();
        }
        let answer = json!({"ips": [{"address": "10.9.0.7/24"}]});
        fake.answer("one", "ADD", &answer);
        let addresses = fake.host.set_up(&pod());
        assert_eq!(addresses.network, "a");
        assert_eq!(addresses.interfaces, ["eth0", "eth1"]);
        let told = fake.told();
        assert_eq!(
            [told[0].variable("CNI_IFNAME"), told[1].variable("CNI_IFNAME")],
            ["eth0", "eth1"]
        );
        fake.host.tear_down(&pod());
        let names: Vec<_> =
            fake.told().iter().map(|told| told.configuration["name"].clone()).collect();
        assert_eq!(names, ["b", "a"]);
    });
}

#[test]
fn plugins_of_the_first_versions_give_addresses_too() {
    on_a_host(|| {
        let fake = Fake::new("0.2.0");
        let old = json!({"ip4": {"ip": "10.9.0.5/24"}, "ip6": {"ip": "fd09::5/64"}});
        fake.answer("two", "ADD", &old);
        let ips = fake.host.set_up(&pod()).ips;
        assert_eq!(
            ips.iter().map(ToString::to_string).collect::<Vec<_>>(),
            ["10.9.0.5", "fd09::5"]
        );
    });
}

#[test]
fn a_configuration_is_made_of_its_template_when_the_node_has_subnets() {
    on_a_host(|| {
        let mut fake = Fake::new("1.1.0");
        fs::remove_dir_all(fake.path("net.d")).unwrap();
        let template = r#"{"cniVersion": "1.0.0", "name": "node", "plugins": [{"type": "one",
            "capabilities": {"ipRanges": true, "ips": true, "mac": true},
            "ipam": {"subnet": "{{.PodCIDR}}"}}]}"#;
        fs::write(fake.path("template"), template).unwrap();
        fake.host.options.cni_conf_template = Some(fake.path("template"));
        fake.host.restart();
        let error = block_on(fake.host.network.status()).unwrap_err().to_string();
        assert!(error.contains("template") && error.contains("pod CIDR"), "{error}");
        assert!(fake.host.try_set_up(&pod()).is_err(), "no other network takes its place");

        let cidrs = ["10.1.0.0/24", "fd01::/64"].map(|text| text.parse().unwrap());
        block_on(fake.host.network.set_pod_cidrs(&cidrs)).unwrap();
        let mut pod = pod();
        pod.request.ips = vec!["10.1.0.7".to_owned()];
        pod.request.mac = "02:00:00:00:00:07".to_owned();
        fake.host.set_up(&pod);
        let told = fake.told().swap_remove(0);
        assert_eq!(told.configuration["ipam"]["subnet"], "10.1.0.0/24");
        let expected = json!({
            "ipRanges": [[{"subnet": "10.1.0.0/24"}], [{"subnet": "fd01::/64"}]],
            "ips": ["10.1.0.7"],
            "mac": "02:00:00:00:00:07",
        });
        assert_eq!(told.configuration["runtimeConfig"], expected);
        // What it was added with is what it is deleted with.
        block_on(fake.host.network.set_pod_cidrs(&cidrs[..1])).unwrap();
        fake.host.tear_down(&pod);
        assert_eq!(fake.told()[0].configuration["runtimeConfig"], expected);

        // The daemon after this one follows a template that is another by then.
        fs::write(fake.path("template"), template.replace("node", "other")).unwrap();
        fake.host.restart();
        assert_eq!(fake.host.set_up(&pod).network, "other");
    });
}

#[test]
fn the_built_in_network_gives_no_address_that_is_asked_for() {
    on_a_host(|| {
        let host = Host::new();
        let mut pod = Pod::new("one");
        pod.request.ips = vec!["10.88.0.7".to_owned()];
        let error = host.try_set_up(&pod).unwrap_err();
        assert_eq!(error.kind(), Kind::InvalidArgument);
        assert!(error.to_string().contains("CNI"), "{error}");
    });
}
