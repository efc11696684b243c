use std::collections::BTreeMap;

use super::{Device, Interface, Pressure, Waited, details, disk, memory, network, processes, text};
use crate::runtime::cgroup::Version;

#[test]
fn numbers_keys_and_what_has_no_limit() {
    assert_eq!(text::number("4096\n"), Some(4096));
    assert_eq!(text::number("max\n"), None);
    assert_eq!(text::number("9223372036854771712\n"), None, "no limit, as version 1 says it");
    let stat = "anon 5\nanon_thp 7\ninactive_file 3\n";
    assert_eq!(text::keyed(stat, "anon"), Some(5));
    assert_eq!(text::keyed(stat, "inactive_file"), Some(3));
    assert_eq!(text::keyed(stat, "file"), None);
}

#[test]
fn pressure_is_read_with_and_without_full() {
    let some = Waited { avg10: 1.5, avg60: 0.25, avg300: 0.0, total: 12 };
    let line = "some avg10=1.50 avg60=0.25 avg300=0.00 total=12\n";
    assert_eq!(text::pressure(line), Some(Pressure { some, full: Waited::default() }));
    let both = format!("{line}full avg10=0.00 avg60=0.00 avg300=0.00 total=3\n");
    assert_eq!(text::pressure(&both).unwrap().full.total, 3);
    assert_eq!(text::pressure(""), None, "a kernel without it");
}

#[test]
fn interfaces_are_those_of_the_pod_without_loopback() {
    let table = "Inter-|   Receive                 |  Transmit\n \
                 face |bytes    packets errs drop fifo frame compressed multicast|bytes\n    \
                 lo:     100 1 0 0 0 0 0 0 100 1 0 0 0 0 0 0\n  \
                 eth0: 1234 5 6 7 0 0 0 0 789 4 3 2 0 0 0 0\n";
    let eth0 = Interface {
        name: "eth0".to_owned(),
        rx_bytes: 1234,
        rx_packets: 5,
        rx_errors: 6,
        rx_dropped: 7,
        tx_bytes: 789,
        tx_packets: 4,
        tx_errors: 3,
        tx_dropped: 2,
    };
    assert_eq!(network::parse(table), [eth0]);
}

#[test]
fn memory_of_both_versions() {
    let v1 = "cache 1\npgfault 2\npgmajfault 3\ntotal_cache 4\ntotal_rss 5\n\
              total_mapped_file 6\ntotal_pgfault 7\ntotal_pgmajfault 8\ntotal_inactive_file 9\n";
    let stat = memory::parse(Version::V1, v1);
    assert_eq!((stat.rss, stat.faults, stat.major_faults), (Some(5), Some(7), Some(8)));
    assert_eq!((stat.parts.cache, stat.parts.mapped_file), (Some(4), Some(6)));
    assert_eq!((stat.parts.own_faults, stat.parts.own_major_faults), (Some(2), Some(3)));
    assert_eq!((stat.parts.inactive_file, stat.parts.active_file), (Some(9), None));

    let v2 = "anon 1\nfile 2\nkernel_stack 3\nslab 4\npgfault 5\n";
    let stat = memory::parse(Version::V2, v2);
    assert_eq!((stat.rss, stat.parts.cache), (Some(1), Some(2)));
    assert_eq!(stat.parts.kernel, Some(7), "a kernel that has no sum");
    assert_eq!((stat.faults, stat.parts.own_faults), (Some(5), Some(5)));
    let stat = memory::parse(Version::V2, "kernel 9\nkernel_stack 3\nslab 4\n");
    assert_eq!(stat.parts.kernel, Some(9));
}

#[test]
fn devices_of_both_versions() {
    let sda = Device { read_bytes: 1, written_bytes: 2, reads: 3, writes: 4 };
    let v2 = details::v2_devices(
        "8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=9 dios=9\n253:1 rbytes=5 wby",
    );
    assert_eq!(v2.into_iter().collect::<Vec<_>>(), [((8, 0), sda)], "whole lines alone");
    let bytes = "8:0 Read 1\n8:0 Write 2\n8:0 Total 3\nTotal 3\n";
    let requests = "8:0 Read 3\n8:0 Write 4\n8:0 Sync 7\nTotal 7\n";
    let v1 = details::v1_devices(bytes, true, BTreeMap::new());
    let v1 = details::v1_devices(requests, false, v1);
    assert_eq!(v1.into_iter().collect::<Vec<_>>(), [((8, 0), sda)]);
}

#[test]
fn sizes_limits_and_mounts() {
    let names = [64, 2048, 1 << 20].map(details::hugepage_name);
    assert_eq!(names, ["64KB", "2MB", "1GB"]);
    assert_eq!(text::unlimited("max\n"), Some(0));
    assert_eq!(text::unlimited("100\n"), Some(100));
    let limits = "Limit                     Soft Limit           Hard Limit           Units     \n\
                  Max open files            1024                 4096                 files     \n";
    assert_eq!(processes::soft_limit(limits, "Max open files"), Some(1024));
    let mounts =
        "21 1 8:1 / / rw - ext4 /dev/sda1 rw\n22 1 0:5 / /dev rw shared:2 - devtmpfs udev rw\n";
    assert_eq!(disk::source_of(mounts, "8:1"), Some("/dev/sda1"));
    assert_eq!(disk::source_of(mounts, "0:5"), Some("udev"));
    assert_eq!(disk::source_of(mounts, "8:2"), None);
}

#[test]
fn what_a_process_has_open_is_counted() {
    let directory = tempfile::tempdir().unwrap();
    let list = directory.path().join("cgroup.procs");
    std::fs::write(&list, format!("{}\n", std::process::id())).unwrap();
    let (_one, _other) = std::os::unix::net::UnixStream::pair().unwrap();
    let counted = processes::count(directory.path(), 1 << 20).unwrap();
    assert_eq!(counted.processes, 1);
    assert!(counted.sockets >= 2 && counted.descriptors >= 5, "{counted:?}");
    assert!(counted.descriptors_max.is_some());
    assert_eq!(processes::count(directory.path(), 1), None, "there is more than that");
    std::fs::write(&list, "").unwrap();
    assert_eq!(processes::count(directory.path(), 1 << 20), None, "nobody is there");
}
