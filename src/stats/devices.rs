//! The names of block devices.

use std::{
    collections::BTreeMap,
    fs,
    sync::{Arc, Mutex, PoisonError},
};

/// Names by numbers. The kernel derives one from the other, so that they are looked up once.
#[derive(Debug, Default)]
pub struct DeviceNames(
    // Look-ups and insertions.
    Mutex<BTreeMap<(u32, u32), Arc<str>>>,
);

impl DeviceNames {
    /// `/dev/sda` for 8:0; of a device that has none the numbers.
    pub fn of(&self, major: u32, minor: u32) -> Arc<str> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(known.entry((major, minor)).or_insert_with(|| name_of(major, minor).into()))
    }
}

fn name_of(major: u32, minor: u32) -> String {
    let numbers = format!("{major}:{minor}");
    let target = fs::read_link(format!("/sys/dev/block/{numbers}")).ok();
    let name = target.as_deref().and_then(|path| path.file_name()).and_then(|name| name.to_str());
    // The kernel writes an exclamation mark for what is a slash below /dev.
    name.map_or(numbers, |name| format!("/dev/{}", name.replace('!', "/")))
}
