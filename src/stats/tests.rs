use super::{Interface, Pressure, Waited, network, text};

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
                 eth0: 1234 5 6 0 0 0 0 0 789 4 3 0 0 0 0 0\n";
    let eth0 = Interface {
        name: "eth0".to_owned(),
        rx_bytes: 1234,
        rx_errors: 6,
        tx_bytes: 789,
        tx_errors: 3,
    };
    assert_eq!(network::parse(table), [eth0]);
}
