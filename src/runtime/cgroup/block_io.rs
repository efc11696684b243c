//! Shares of disks, and limits of what goes to and from them, in the files of cgroups.

use oci_spec::runtime::{LinuxBlockIo, LinuxThrottleDevice};

use super::settings::{Setting, setting};

type Rates<'a> = (&'a Option<Vec<LinuxThrottleDevice>>, &'static str);

/// `io.max` has a line for each device, of which a write changes what it names. The weight is
/// that of the scheduler BFQ, in its own file and units.
pub(super) fn for_v2(block_io: &LinuxBlockIo) -> Vec<Setting> {
    let mut settings = weights(block_io, "io", ["io.bfq.weight"; 2]);
    let limits: [Rates<'_>; 4] = [
        (block_io.throttle_read_bps_device(), "rbps"),
        (block_io.throttle_write_bps_device(), "wbps"),
        (block_io.throttle_read_iops_device(), "riops"),
        (block_io.throttle_write_iops_device(), "wiops"),
    ];
    for (devices, word) in limits {
        for device in devices.iter().flatten() {
            let (major, minor, rate) = (device.major(), device.minor(), device.rate());
            settings.push(setting("io", "io.max", format!("{major}:{minor} {word}={rate}")));
        }
    }
    settings
}

pub(super) fn for_v1(block_io: &LinuxBlockIo) -> Vec<Setting> {
    let mut settings = weights(block_io, "blkio", ["blkio.bfq.weight", "blkio.bfq.weight_device"]);
    let limits: [Rates<'_>; 4] = [
        (block_io.throttle_read_bps_device(), "read_bps"),
        (block_io.throttle_write_bps_device(), "write_bps"),
        (block_io.throttle_read_iops_device(), "read_iops"),
        (block_io.throttle_write_iops_device(), "write_iops"),
    ];
    for (devices, word) in limits {
        for device in devices.iter().flatten() {
            let (major, minor, rate) = (device.major(), device.minor(), device.rate());
            let file = format!("blkio.throttle.{word}_device");
            settings.push(setting("blkio", file, format!("{major}:{minor} {rate}")));
        }
    }
    settings
}

/// A node without the scheduler has no such file, and a container that wants it is refused.
fn weights(
    block_io: &LinuxBlockIo,
    controller: &'static str,
    [file, of_device]: [&str; 2],
) -> Vec<Setting> {
    let whole = block_io.weight().map(|weight| setting(controller, file, weight));
    let of_devices = block_io.weight_device().iter().flatten().filter_map(|device| {
        let value = format!("{}:{} {}", device.major(), device.minor(), device.weight()?);
        Some(setting(controller, of_device, value))
    });
    whole.into_iter().chain(of_devices).collect()
}
