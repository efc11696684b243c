//! The network of pods: CNI as it is configured, or what the built-in network needs.

use std::{
    env, fs,
    io::{self, ErrorKind},
    path::Path,
    process::Command,
};

use super::finding::{Finding, aside};
use crate::{
    network::{CniNetwork, Error, Options, cni_networks, probe},
    sys::clone::unshare,
};

/// Everything about networks.
pub(super) fn survey(options: &Options) -> Vec<Finding> {
    let networks = cni_networks(options);
    let builtin = options.builtin && networks.as_ref().is_ok_and(Vec::is_empty);
    let mut findings = vec![judge_cni(&networks, options)];
    findings.extend(devices(options.clone(), builtin));
    findings.push(judge_ipv6(
        fs::read_to_string("/proc/sys/net/ipv6/conf/all/disable_ipv6").ok().as_deref(),
        options.subnet_v6.is_some() && builtin,
    ));
    findings.push(judge_forwarding(
        fs::read_to_string("/proc/sys/net/ipv4/ip_forward").ok().as_deref(),
        builtin,
    ));
    findings.push(judge_bridged_packets(
        fs::read_to_string("/proc/sys/net/bridge/bridge-nf-call-iptables").ok().as_deref(),
    ));
    findings.push(judge_firewall(firewall(), options, builtin));
    findings.push(judge_neighbours(number, builtin));
    findings.push(judge_connections(number));
    findings
}

fn judge_cni(networks: &Result<Vec<CniNetwork>, Error>, options: &Options) -> Finding {
    let what = "CNI";
    let directory = options.cni_conf_dir.display();
    let networks = match networks {
        Ok(networks) => networks,
        Err(error) => {
            let mend = format!("correct or remove it; pods get no network while {directory} is so");
            return Finding::fail(what, error, mend);
        }
    };
    if networks.is_empty() && options.builtin {
        let found = format!(
            "nothing in {directory}: the built-in network is used, for pods of this node alone; \
             traffic between nodes needs a CNI network"
        );
        return Finding::ok(what, found);
    }
    if networks.is_empty() {
        let mend = "install a CNI network there, or set network.builtin = true";
        return Finding::fail(what, format!("nothing in {directory}"), mend);
    }
    let describe =
        |network: &CniNetwork| format!("{} ({})", network.name, network.plugins.join(", "));
    let found = networks.iter().map(describe).collect::<Vec<_>>().join("; ");
    let missing: Vec<&str> =
        networks.iter().flat_map(|network| &network.missing).map(String::as_str).collect();
    let too_old: Vec<String> = networks
        .iter()
        .flat_map(|network| network.too_old.iter().map(|plugin| (plugin, &network.version)))
        .map(|(plugin, version)| format!("{plugin} does not know version {version}"))
        .collect();
    if missing.is_empty() && too_old.is_empty() {
        return Finding::ok(what, found);
    }
    if missing.is_empty() {
        let mend = format!("{}; install a newer one, or lower cniVersion", too_old.join(", "));
        return Finding::fail(what, found, mend);
    }
    let directories: Vec<String> =
        options.cni_bin_dirs.iter().map(|directory| directory.display().to_string()).collect();
    let mend = format!("install {} in one of {}", missing.join(", "), directories.join(", "));
    Finding::fail(what, found, mend)
}

/// Tries what the built-in network makes, in a network namespace of its own.
fn devices(options: Options, builtin: bool) -> Vec<Finding> {
    let tried = aside(move || {
        unshare(libc::CLONE_NEWNET)?;
        let (bridge, veth) = (probe::try_bridge(), probe::try_veth());
        let sources = probe::try_source_check();
        let bandwidth = probe::try_bandwidth(sources.is_ok());
        Ok((bridge, veth, probe::try_rules(&options), sources, bandwidth))
    });
    let judge = if builtin { Finding::required } else { Finding::useful };
    match tried {
        Ok((bridge, veth, rules, sources, bandwidth)) => vec![
            judge("bridge", bridge, "load the module: modprobe bridge"),
            judge("veth", veth, "load the module: modprobe veth"),
            judge(
                "nftables",
                rules,
                "load the modules: modprobe -a nf_tables nft_chain_nat nft_fib_inet nft_masq nft_nat",
            ),
            Finding::useful(
                "source check",
                sources,
                "load the modules: modprobe -a sch_ingress cls_bpf; without them pods of the \
                 built-in network can send with the addresses of others",
            ),
            Finding::useful(
                "bandwidth limits",
                bandwidth,
                "load the modules: modprobe -a sch_tbf sch_ingress cls_bpf act_mirred ifb; \
                 without them pods with bandwidth annotations do not start",
            ),
        ],
        Err(error) => {
            let mend = "run as root with CAP_SYS_ADMIN and CAP_NET_ADMIN";
            vec![Finding::fail("network devices", error, mend)]
        }
    }
}

fn judge_ipv6(disabled: Option<&str>, wanted: bool) -> Finding {
    let what = "IPv6";
    let found = match disabled.map(str::trim) {
        Some("0") => return Finding::ok(what, "on"),
        Some(_) => "turned off (net.ipv6.conf.all.disable_ipv6)",
        None => "not in this kernel",
    };
    if !wanted {
        return Finding::ok(what, found);
    }
    let mend = "turn it on with sysctl net.ipv6.conf.all.disable_ipv6=0, or set \
                network.subnet_v6 = \"\"";
    Finding::warn(what, found, mend)
}

fn judge_forwarding(value: Option<&str>, builtin: bool) -> Finding {
    let what = "ip_forward";
    match value.map(str::trim) {
        Some("1") => Finding::ok(what, "on"),
        _ if builtin => {
            Finding::ok(what, "off; the built-in network turns it on with the first pod")
        }
        _ => Finding::warn(what, "off", "set sysctl net.ipv4.ip_forward=1"),
    }
}

fn judge_bridged_packets(value: Option<&str>) -> Finding {
    let what = "br_netfilter";
    let mend = "modprobe br_netfilter and set sysctl net.bridge.bridge-nf-call-iptables=1: \
                without it a pod on a bridge cannot reach a Service whose pod is on the same node";
    match value.map(str::trim) {
        Some("1") => Finding::ok(what, "on"),
        Some(_) => Finding::warn(what, "net.bridge.bridge-nf-call-iptables is 0", mend),
        None => Finding::warn(what, "not loaded", mend),
    }
}

/// A setting that is a number; none of a kernel that does not have it.
fn number(name: &str) -> Option<u64> {
    let file = format!("/proc/sys/{}", name.replace('.', "/"));
    fs::read_to_string(file).ok()?.trim().parse().ok()
}

/// Each pod of a node is a neighbour of the bridge: one of IPv4, two of IPv6.
const LEAST_NEIGHBOURS: u64 = 1024;

fn judge_neighbours(read: impl Fn(&str) -> Option<u64>, builtin: bool) -> Finding {
    let what = "neighbour tables";
    let tables = ["net.ipv4.neigh.default.gc_thresh3", "net.ipv6.neigh.default.gc_thresh3"];
    let limits: Vec<(&str, u64)> =
        tables.iter().filter_map(|name| Some((*name, read(name)?))).collect();
    let found: Vec<String> = limits.iter().map(|(name, limit)| format!("{name}={limit}")).collect();
    let found = found.join(" ");
    let least = limits.iter().map(|(_, limit)| *limit).min().unwrap_or(u64::MAX);
    let mend = "set gc_thresh3 (and gc_thresh2 to half of it) to four times the pods of a node, \
                as in sysctl net.ipv4.neigh.default.gc_thresh3=8192: where it is full, pods and \
                nodes cannot be reached";
    match least {
        0..LEAST_NEIGHBOURS => Finding::warn(what, found, mend),
        LEAST_NEIGHBOURS..4096 if builtin => {
            Finding::ok(what, format!("{found}: enough for {} pods on the bridge", least / 4))
        }
        _ => Finding::ok(what, found),
    }
}

/// What kube-proxy sets at least.
const LEAST_CONNECTIONS: u64 = 131_072;

fn judge_connections(read: impl Fn(&str) -> Option<u64>) -> Finding {
    let (what, name) = ("tracked connections", "net.netfilter.nf_conntrack_max");
    match read(name) {
        Some(limit) if limit < LEAST_CONNECTIONS => Finding::warn(
            what,
            format!("{name}={limit}"),
            format!(
                "set sysctl {name}={LEAST_CONNECTIONS} or more, unless kube-proxy does: new \
                 connections are dropped where the table is full"
            ),
        ),
        Some(limit) => Finding::ok(what, format!("{name}={limit}")),
        None => Finding::ok(what, "not yet; the first rule loads them"),
    }
}

/// The chains of this machine that drop forwarded packets unless a rule accepts them.
fn firewall() -> io::Result<Vec<String>> {
    let mut chains = match probe::dropping_forward_chains() {
        Err(error) if error.kind() == ErrorKind::NotFound => Vec::new(),
        chains => chains?,
    };
    chains.extend(legacy("/proc/net/ip_tables_names", "iptables-legacy"));
    chains.extend(legacy("/proc/net/ip6_tables_names", "ip6tables-legacy"));
    Ok(chains)
}

/// The old tables can be asked only through their own program, and only if they are in use:
/// to ask would load them.
fn legacy(tables: &str, program: &str) -> Option<String> {
    let in_use = fs::read_to_string(tables).ok()?.lines().any(|table| table == "filter");
    let directories = env::var_os("PATH").unwrap_or_else(|| "/usr/sbin:/sbin".into());
    let path = env::split_paths(&directories)
        .chain(["/usr/sbin".into()])
        .map(|directory| directory.join(program))
        .find(|path| in_use && Path::new(path).is_file())?;
    let output = Command::new(path).args(["-S", "FORWARD"]).output().ok()?;
    let drops = String::from_utf8_lossy(&output.stdout).lines().any(|l| l == "-P FORWARD DROP");
    drops.then(|| format!("{program} filter FORWARD"))
}

fn judge_firewall(chains: io::Result<Vec<String>>, options: &Options, builtin: bool) -> Finding {
    let what = "firewall";
    let chains = match chains {
        Ok(chains) if chains.is_empty() => {
            return Finding::ok(what, "forwarded packets are not dropped by default");
        }
        Ok(chains) => chains.join("; "),
        Err(error) => return Finding::warn(what, error, "run as root with CAP_NET_ADMIN"),
    };
    let found = format!("forwarded packets are dropped by default in {chains}");
    if !builtin {
        let mend = "the CNI network must accept the packets of its pods there; most do";
        return Finding::warn(what, found, mend);
    }
    let bridge = &options.bridge;
    let mend = format!(
        "accept the pods' packets in that chain, as in: iptables -I FORWARD -i {bridge} -j ACCEPT; \
         iptables -I FORWARD -o {bridge} -j ACCEPT (or nft insert rule ... iifname {bridge} accept)"
    );
    Finding::warn(what, found, mend)
}

#[cfg(test)]
mod tests {
    use std::{fs, process::Command};

    use super::{
        judge_bridged_packets, judge_cni, judge_connections, judge_firewall, judge_forwarding,
        judge_ipv6, judge_neighbours,
    };
    use crate::{
        cli::check::Status,
        network::{Options, cni_networks},
    };

    #[test]
    fn cni_as_it_is_configured() {
        let directory = tempfile::tempdir().unwrap();
        let (conf, bin) = (directory.path().join("net.d"), directory.path().join("bin"));
        fs::create_dir(&bin).unwrap();
        let mut options = Options {
            cni_conf_dir: conf.clone(),
            cni_bin_dirs: vec![bin.clone()],
            ..Options::default()
        };
        let judge = |options: &Options| judge_cni(&cni_networks(options), options);
        assert_eq!(judge(&options).status, Status::Ok);
        options.builtin = false;
        assert_eq!(judge(&options).status, Status::Fail);

        fs::create_dir(&conf).unwrap();
        let list = r#"{"cniVersion":"1.0.0","name":"pods","plugins":[{"type":"bridge"},{"type":"portmap"}]}"#;
        fs::write(conf.join("10-pods.conflist"), list).unwrap();
        fs::write(bin.join("bridge"), "").unwrap();
        let finding = judge(&options);
        assert_eq!(
            (finding.status, finding.found.as_str()),
            (Status::Fail, "pods (bridge, portmap)")
        );
        assert!(finding.mend.starts_with("install portmap in one of "), "{finding:?}");
        fs::write(bin.join("portmap"), "").unwrap();
        assert_eq!(judge(&options).status, Status::Ok);
        // Installed by another process: a descriptor of this one would keep it from executing.
        let old = directory.path().join("old");
        fs::write(&old, "#!/bin/sh\necho '{\"supportedVersions\": [\"0.4.0\"]}'\n").unwrap();
        let install = ["-m", "755", old.to_str().unwrap(), bin.to_str().unwrap()];
        assert!(Command::new("install").args(install).status().unwrap().success());
        fs::rename(bin.join("old"), bin.join("portmap")).unwrap();
        let finding = judge(&options);
        assert_eq!(finding.status, Status::Fail);
        assert!(finding.mend.starts_with("portmap does not know version 1.0.0"), "{finding:?}");
        fs::write(conf.join("10-pods.conflist"), "{").unwrap();
        assert_eq!(judge(&options).status, Status::Fail);
    }

    #[test]
    fn settings_of_the_host() {
        assert_eq!(judge_ipv6(Some("1\n"), true).status, Status::Warn);
        assert_eq!(judge_ipv6(None, false).status, Status::Ok);
        assert_eq!(judge_forwarding(Some("0\n"), true).status, Status::Ok);
        assert_eq!(judge_forwarding(Some("0\n"), false).status, Status::Warn);
        assert_eq!(judge_bridged_packets(None).status, Status::Warn);
        assert_eq!(judge_bridged_packets(Some("1\n")).status, Status::Ok);
    }

    #[test]
    fn tables_that_are_too_small() {
        let neighbours = |limit: Option<u64>| judge_neighbours(|_| limit, true);
        assert_eq!(neighbours(Some(128)).status, Status::Warn);
        assert!(neighbours(Some(1024)).found.ends_with("enough for 256 pods on the bridge"));
        assert_eq!(neighbours(Some(8192)).status, Status::Ok);
        assert_eq!(neighbours(None).status, Status::Ok);
        assert_eq!(judge_connections(|_| Some(65_536)).status, Status::Warn);
        assert_eq!(judge_connections(|_| None).status, Status::Ok);
    }

    #[test]
    fn a_firewall_that_drops_is_named() {
        let options = Options::default();
        assert_eq!(judge_firewall(Ok(vec![]), &options, true).status, Status::Ok);
        let finding = judge_firewall(Ok(vec!["ip filter FORWARD".into()]), &options, true);
        assert_eq!(finding.status, Status::Warn);
        assert!(finding.found.ends_with("ip filter FORWARD"), "{finding:?}");
        assert!(finding.mend.contains("-i criquet0"), "{finding:?}");
    }
}
