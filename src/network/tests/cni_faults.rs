//! CNI plugins that fail at each step, hang, are killed, and say what is none of their business.

use std::{fs, time::Duration};

use serde_json::json;

use super::{
    cni::{Fake, pod, result},
    harness::{block_on, eventually, on_a_host},
};
use crate::{kind::Kind, network::Error};

/// Whether the process that a plugin has started still runs.
fn child_runs(fake: &Fake) -> bool {
    let Ok(pid) = fs::read_to_string(fake.path("child")) else { return false };
    let stat = fs::read_to_string(format!("/proc/{}/stat", pid.trim())).unwrap_or_default();
    !stat.is_empty() && !stat.contains(") Z ")
}

#[test]
fn a_plugin_that_hangs_ends_with_all_that_it_has_started() {
    on_a_host(|| {
        let mut fake = Fake::new("1.0.0");
        fake.host.options.cni_timeout = Duration::from_secs(1);
        fake.host.restart();
        for verb in ["ADD", "DEL"] {
            let _ = fs::remove_file(fake.path("child"));
            fs::write(fake.path(&format!("sleep.two.{verb}")), "").unwrap();
            let error = match verb {
                "ADD" => fake.host.try_set_up(&pod()).map(drop),
                _ => {
                    fake.host.set_up(&pod());
                    block_on(fake.host.network.teardown(&pod().request, None))
                }
            };
            assert!(matches!(error, Err(Error::PluginTimeout { .. })), "{error:?}");
            eventually("its child ends", || !child_runs(&fake));
            fs::remove_file(fake.path(&format!("sleep.two.{verb}"))).unwrap();
        }
        // What hung was not forgotten.
        fake.told();
        block_on(fake.host.network.teardown(&pod().request, None)).unwrap();
        assert_eq!(fake.calls(), ["DEL two", "DEL one"]);
    });
}

#[test]
fn a_plugin_that_nobody_waits_for_any_more_ends_as_well() {
    on_a_host(|| {
        let fake = Fake::new("1.0.0");
        fs::write(fake.path("sleep.one.ADD"), "").unwrap();
        let pod = pod();
        block_on(async {
            let path = pod.path();
            let namespace = std::os::fd::AsFd::as_fd(&pod.namespace);
            let set_up = fake.host.network.setup(&pod.request, namespace, &path);
            let started = async {
                while !child_runs(&fake) {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
            };
            tokio::select! {
                outcome = set_up => panic!("{outcome:?}"),
                () = started => {}
            }
        });
        eventually("its child ends", || !child_runs(&fake));
    });
}

#[test]
fn a_process_that_a_plugin_leaves_behind_holds_up_nobody() {
    on_a_host(|| {
        let fake = Fake::new("1.0.0");
        fs::write(fake.path("leave.two.ADD"), "").unwrap();
        assert_eq!(fake.host.set_up(&pod()).ips.len(), 2);
        assert!(child_runs(&fake), "it may be a service of the plugin's");
        let child = fs::read_to_string(fake.path("child")).unwrap().trim().parse().unwrap();
        let child = rustix::process::Pid::from_raw(child).unwrap();
        rustix::process::kill_process(child, rustix::process::Signal::KILL).unwrap();
    });
}

#[test]
fn whatever_fails_of_an_addition_all_of_it_is_undone() {
    on_a_host(|| {
        let fake = Fake::new("1.0.0");
        let error = json!({"code": 100, "msg": "on purpose"});
        for (plugin, fault) in [
            ("one", "error"),
            ("two", "error"),
            ("one", "garbage"),
            ("two", "garbage"),
            ("two", "addresses"),
            ("one", "killed"),
        ] {
            match fault {
                "error" => fake.fail(plugin, "ADD", &error),
                "garbage" => fs::write(fake.path(&format!("answer.{plugin}.ADD")), "{").unwrap(),
                "addresses" => fake.answer(plugin, "ADD", &json!({"ips": [{"address": "x"}]})),
                _ => fs::write(fake.path(&format!("kill.{plugin}.ADD")), "").unwrap(),
            }
            let error = fake.host.try_set_up(&pod()).unwrap_err();
            assert_eq!(error.kind(), Kind::Internal, "{error}");
            assert!(error.to_string().contains(plugin), "{error}");
            if fault == "killed" {
                assert!(error.to_string().contains("signal 9"), "{error}");
                fs::remove_file(fake.path(&format!("kill.{plugin}.ADD"))).unwrap();
            }
            let calls = fake.calls();
            assert_eq!(calls[calls.len() - 2..], ["DEL two", "DEL one"], "{plugin} {fault}");
            assert!(!fake.path("cache/results/fake-s1-eth0").exists());
            block_on(fake.host.network.teardown(&pod().request, None)).unwrap();
            assert!(fake.calls().is_empty(), "nothing of it is recorded: {plugin} {fault}");
            if fault == "error" {
                fake.recover(plugin, "ADD");
            }
            fake.answer("one", "ADD", &json!({"cniVersion": "1.0.0", "ips": []}));
            fake.answer("two", "ADD", &result("1.0.0"));
        }
    });
}

#[test]
fn a_plugin_that_is_missing_for_a_while_deletes_when_it_is_back() {
    on_a_host(|| {
        let fake = Fake::new("1.0.0");
        fake.host.set_up(&pod());
        fake.told();
        fs::rename(fake.path("bin/two"), fake.path("two")).unwrap();
        let error = block_on(fake.host.network.teardown(&pod().request, None)).unwrap_err();
        assert_eq!(error.kind(), Kind::FailedPrecondition, "{error}");
        fs::rename(fake.path("two"), fake.path("bin/two")).unwrap();
        block_on(fake.host.network.teardown(&pod().request, None)).unwrap();
        assert_eq!(fake.calls(), ["DEL two", "DEL one"]);
    });
}

#[test]
fn a_pod_is_checked_unless_the_network_is_not_to_be() {
    on_a_host(|| {
        let fake = Fake::new("0.4.0");
        let check = || block_on(fake.host.network.check("s1"));
        check().unwrap();
        fake.host.set_up(&pod());
        fake.told();
        check().unwrap();
        let told = fake.told();
        assert_eq!([&told[0].call, &told[1].call], ["CHECK one", "CHECK two"]);
        assert_eq!(told[0].configuration["prevResult"], result("0.4.0"));
        assert_eq!(told[1].configuration["runtimeConfig"]["cgroupPath"], "/kubepods/pod1");
        fake.fail("one", "CHECK", &json!({"code": 4, "msg": "unknown command"}));
        check().unwrap();
        fake.fail("two", "CHECK", &json!({"code": 102, "msg": "eth0 is gone"}));
        assert!(check().unwrap_err().to_string().contains("eth0 is gone"));

        let plugins = json!([{"type": "one"}]);
        for more in [
            json!({"cniVersion": "0.3.1", "name": "fake", "plugins": plugins}),
            json!({"cniVersion": "1.1.0", "name": "fake", "plugins": plugins, "disableCheck": true}),
        ] {
            fake.configure(&more);
            fake.host.set_up(&pod());
            fake.told();
            check().unwrap();
            assert!(fake.calls().is_empty(), "{more}");
        }
    });
}
