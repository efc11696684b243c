//! A reader of bbolt files, in which containerd keeps what it knows.
//!
//! Of the format only what is read here: two pages that say where the tree begins, and a tree
//! of pages with keys, whose values are bytes or further trees. The crates that know it
//! (`nut` 0.1) are made for writing, map the file, and take its word for every offset. Here
//! each offset is looked at, and no page is read more often than there are pages.

use std::{cell::Cell, fs::File, os::unix::fs::FileExt};

const MAGIC: u32 = 0xed0c_daed;
const VERSION: u32 = 2;
const PAGE_HEADER: usize = 16;
const ELEMENT: usize = 16;
/// Of a tree within a value, before its only page where that is inside.
const BUCKET_HEADER: usize = 16;
const BRANCH: u16 = 1;
const LEAF: u16 = 2;
const IS_BUCKET: u32 = 1;
/// The part of a page that says where the tree begins, its sum included.
const META: usize = 64;
/// No honest page is longer: containerd's values are names and digests.
const LONGEST_PAGE: u64 = 64 << 20;

/// A file whose writer is away.
pub(super) struct Bolt {
    file: File,
    page_size: u64,
    /// All pages that the file has.
    pages: u64,
    /// How many may still be read.
    budget: Cell<u64>,
    root: u64,
}

/// What a key has.
pub(super) enum Value {
    Bytes(Vec<u8>),
    Bucket(Bucket),
}

/// A tree of keys.
pub(super) enum Bucket {
    /// By the number of its first page.
    At(u64),
    /// Small enough for one page within a value.
    Inside(Vec<u8>),
}

type Entries = Vec<(Vec<u8>, Value)>;

impl Bolt {
    /// Reads where the tree begins. The error says what is wrong with the file.
    pub(super) fn open(file: File) -> Result<Self, String> {
        let length = file.metadata().map_err(|error| error.to_string())?.len();
        // The second page is found by the size of pages, which the first one may not tell.
        let places = std::iter::once(0).chain((9..=16).map(|shift| 1 << shift));
        let metas = places.filter_map(|offset| Meta::read(&file, offset));
        let meta = metas
            .max_by_key(|meta| meta.transaction)
            .ok_or("it is no database of bbolt, or both its first pages are damaged")?;
        let pages = length / meta.page_size;
        Ok(Self {
            file,
            page_size: meta.page_size,
            pages,
            budget: Cell::new(pages * 4),
            root: meta.root,
        })
    }

    /// The tree that all others are in.
    pub(super) fn root(&self) -> Bucket {
        Bucket::At(self.root)
    }

    /// The tree at the end of a way of keys, or nothing where it breaks off.
    pub(super) fn bucket(&self, way: &[&[u8]]) -> Result<Option<Bucket>, String> {
        let mut bucket = self.root();
        for key in way {
            let found = self.entries(&bucket)?.into_iter().find(|(name, _)| name == key);
            match found {
                Some((_, Value::Bucket(inner))) => bucket = inner,
                _ => return Ok(None),
            }
        }
        Ok(Some(bucket))
    }

    /// All keys of a tree in their order.
    pub(super) fn entries(&self, bucket: &Bucket) -> Result<Entries, String> {
        let mut entries = Vec::new();
        let mut rest = Vec::new();
        match bucket {
            Bucket::At(page) => rest.push(*page),
            Bucket::Inside(page) => {
                let below = read_page(page, &mut entries)?;
                if !below.is_empty() {
                    return Err("a small tree leads elsewhere".to_owned());
                }
            }
        }
        while let Some(number) = rest.pop() {
            let below = read_page(&self.page(number)?, &mut entries)?;
            rest.extend(below.into_iter().rev());
        }
        Ok(entries)
    }

    fn page(&self, number: u64) -> Result<Vec<u8>, String> {
        let left = self.budget.get().checked_sub(1).ok_or("its pages lead in a circle")?;
        self.budget.set(left);
        let wrong = |what: &str| format!("page {number} {what}");
        if number >= self.pages {
            return Err(wrong("is behind the end"));
        }
        let offset = number * self.page_size;
        let mut header = [0; PAGE_HEADER];
        self.read_at(&mut header, offset)?;
        // What does not fit into one page goes on in those that follow.
        let more = u64::from(u32_at(&header, 12).unwrap_or_default());
        let length = (more + 1) * self.page_size;
        if u64_at(&header, 0) != Some(number) {
            return Err(wrong("has the number of another one"));
        }
        if number + more >= self.pages || length > LONGEST_PAGE {
            return Err(wrong("is longer than can be"));
        }
        let mut page = vec![0; length as usize];
        self.read_at(&mut page, offset)?;
        Ok(page)
    }

    fn read_at(&self, bytes: &mut [u8], offset: u64) -> Result<(), String> {
        self.file.read_exact_at(bytes, offset).map_err(|error| format!("it breaks off: {error}"))
    }
}

struct Meta {
    page_size: u64,
    root: u64,
    transaction: u64,
}

impl Meta {
    /// The page at that offset, if it is one that counts.
    fn read(file: &File, offset: u64) -> Option<Self> {
        let mut bytes = [0; PAGE_HEADER + META];
        file.read_exact_at(&mut bytes, offset).ok()?;
        let meta = &bytes[PAGE_HEADER..];
        let page_size = u64::from(u32_at(meta, 8)?);
        let is_whole = u32_at(meta, 0)? == MAGIC
            && u32_at(meta, 4)? == VERSION
            && page_size >= 512
            && page_size.is_power_of_two()
            && u64_at(meta, META - 8)? == fnv(&meta[..META - 8]);
        is_whole.then_some(())?;
        Some(Self { page_size, root: u64_at(meta, 16)?, transaction: u64_at(meta, 48)? })
    }
}

/// Takes the keys of a page, and returns the pages below it.
fn read_page(page: &[u8], entries: &mut Entries) -> Result<Vec<u64>, String> {
    const SHORT: &str = "a page is shorter than what is in it";
    let flags = u16_at(page, 8).ok_or(SHORT)?;
    let count = usize::from(u16_at(page, 10).ok_or(SHORT)?);
    let mut below = Vec::new();
    for index in 0..count {
        let start = PAGE_HEADER + index * ELEMENT;
        let number = |offset| u32_at(page, start + offset).ok_or(SHORT);
        match flags {
            BRANCH => below.push(u64_at(page, start + 8).ok_or(SHORT)?),
            LEAF => {
                let key = start + number(4)? as usize;
                let value = key + number(8)? as usize;
                let end = value + number(12)? as usize;
                let (key, value) = page
                    .get(key..value)
                    .zip(page.get(value..end))
                    .ok_or("a key is outside of its page")?;
                let value = match number(0)? & IS_BUCKET {
                    0 => Value::Bytes(value.to_vec()),
                    _ => Value::Bucket(bucket(value)?),
                };
                entries.push((key.to_vec(), value));
            }
            other => return Err(format!("a page is of kind {other}, and was to have keys")),
        }
    }
    Ok(below)
}

fn bucket(value: &[u8]) -> Result<Bucket, String> {
    match u64_at(value, 0).zip(value.get(BUCKET_HEADER..)) {
        Some((0, page)) => Ok(Bucket::Inside(page.to_vec())),
        Some((page, _)) => Ok(Bucket::At(page)),
        None => Err("a tree has no beginning".to_owned()),
    }
}

/// FNV-1a of 64 bits.
fn fnv(bytes: &[u8]) -> u64 {
    let step = |sum: u64, byte: &u8| (sum ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, step)
}

fn bytes_at<const N: usize>(bytes: &[u8], offset: usize) -> Option<[u8; N]> {
    bytes.get(offset..)?.first_chunk().copied()
}

fn u16_at(bytes: &[u8], offset: usize) -> Option<u16> {
    bytes_at(bytes, offset).map(u16::from_le_bytes)
}

fn u32_at(bytes: &[u8], offset: usize) -> Option<u32> {
    bytes_at(bytes, offset).map(u32::from_le_bytes)
}

fn u64_at(bytes: &[u8], offset: usize) -> Option<u64> {
    bytes_at(bytes, offset).map(u64::from_le_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: usize = 4096;

    fn meta(transaction: u64, root: u64) -> Vec<u8> {
        let mut meta = Vec::new();
        meta.extend(MAGIC.to_le_bytes());
        meta.extend(VERSION.to_le_bytes());
        meta.extend((PAGE as u32).to_le_bytes());
        meta.extend(0_u32.to_le_bytes());
        for number in [root, 0, 2, 5, transaction] {
            meta.extend(number.to_le_bytes());
        }
        assert_eq!(meta.len(), META - 8);
        let sum = fnv(&meta);
        meta.extend(sum.to_le_bytes());
        meta
    }

    fn page(number: u64, flags: u16, count: u16, content: &[u8]) -> Vec<u8> {
        let mut page = number.to_le_bytes().to_vec();
        page.extend(flags.to_le_bytes());
        page.extend(count.to_le_bytes());
        page.extend(0_u32.to_le_bytes());
        page.extend(content);
        page.resize(PAGE, 0);
        page
    }

    fn leaf(number: u64, entries: &[(&[u8], &[u8], u32)]) -> Vec<u8> {
        let (mut elements, mut data) = (Vec::new(), Vec::new());
        for (index, (key, value, flags)) in entries.iter().enumerate() {
            let position = (entries.len() - index) * ELEMENT + data.len();
            for field in [*flags, position as u32, key.len() as u32, value.len() as u32] {
                elements.extend(field.to_le_bytes());
            }
            data.extend_from_slice(key);
            data.extend_from_slice(value);
        }
        elements.extend(data);
        page(number, LEAF, entries.len() as u16, &elements)
    }

    fn branch(number: u64, below: &[u64]) -> Vec<u8> {
        let element = |page: &u64| [&[0; 8][..], &page.to_le_bytes()].concat();
        page(
            number,
            BRANCH,
            below.len() as u16,
            &below.iter().flat_map(element).collect::<Vec<_>>(),
        )
    }

    fn opened(pages: &[Vec<u8>]) -> Result<Bolt, String> {
        let path = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(path.path(), pages.concat()).unwrap();
        Bolt::open(File::open(path.path()).unwrap())
    }

    fn keys(bolt: &Bolt, way: &[&[u8]]) -> Result<Vec<String>, String> {
        let bucket = bolt.bucket(way)?.ok_or("absent")?;
        let entries = bolt.entries(&bucket)?;
        Ok(entries.into_iter().map(|(key, _)| String::from_utf8(key).unwrap()).collect())
    }

    fn metas(root: u64) -> [Vec<u8>; 2] {
        // The newer one counts.
        [page(0, 4, 0, &meta(7, root)), page(1, 4, 0, &meta(6, 99))]
    }

    #[test]
    fn trees_are_walked() {
        let small = [&[0; 16][..], &leaf(0, &[(b"k", b"v", 0)])[..40]].concat();
        let large = [&5_u64.to_le_bytes()[..], &[0; 8]].concat();
        let pages = [
            metas(3).to_vec(),
            vec![
                page(2, 16, 0, &[]),
                branch(3, &[4, 6]),
                leaf(4, &[(b"a", b"1", 0), (b"b", &large, IS_BUCKET)]),
                leaf(5, &[(b"inner", b"2", 0)]),
                leaf(6, &[(b"c", &small, IS_BUCKET)]),
            ],
        ]
        .concat();
        let bolt = opened(&pages).unwrap();
        assert_eq!(keys(&bolt, &[]).unwrap(), ["a", "b", "c"]);
        assert_eq!(keys(&bolt, &[b"b"]).unwrap(), ["inner"]);
        assert_eq!(keys(&bolt, &[b"c"]).unwrap(), ["k"]);
        assert!(bolt.bucket(&[b"a"]).unwrap().is_none());
        assert!(bolt.bucket(&[b"nothing"]).unwrap().is_none());
    }

    #[test]
    fn damaged_files_are_told() {
        let with = |page: Vec<u8>| {
            let [first, second] = metas(2);
            opened(&[first, second, page]).and_then(|bolt| keys(&bolt, &[]))
        };
        assert!(opened(&[vec![0; PAGE]]).is_err());
        assert!(with(branch(2, &[2])).unwrap_err().contains("circle"));
        assert!(with(branch(2, &[9])).unwrap_err().contains("behind the end"));
        assert!(with(leaf(3, &[])).unwrap_err().contains("another one"));
        assert!(with(page(2, 8, 1, &[])).unwrap_err().contains("kind 8"));
        let mut long = leaf(2, &[]);
        long[12] = 9;
        assert!(with(long).unwrap_err().contains("longer"));
        let mut outside = leaf(2, &[(b"key", b"value", 0)]);
        outside[PAGE_HEADER + 8..PAGE_HEADER + 12].copy_from_slice(&u32::MAX.to_le_bytes());
        assert!(with(outside).unwrap_err().contains("outside"));
    }
}
