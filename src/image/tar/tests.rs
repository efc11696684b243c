//! Archives by hand, for this module's tests and for those of its users.

use super::*;

/// Writes archives, well formed or not.
#[derive(Default)]
pub(in crate::image) struct Builder {
    bytes: Vec<u8>,
}

impl Builder {
    pub(in crate::image) fn raw(
        &mut self,
        kind: u8,
        path: &[u8],
        link: &[u8],
        mode: u32,
        owner: (u32, u32),
        data: &[u8],
    ) -> &mut Self {
        let mut block = [0u8; 512];
        block[..path.len()].copy_from_slice(path);
        let mut put = |offset: usize, text: String| {
            block[offset..offset + text.len()].copy_from_slice(text.as_bytes());
        };
        put(100, format!("{mode:07o}\0"));
        put(108, format!("{:07o}\0", owner.0));
        put(116, format!("{:07o}\0", owner.1));
        put(124, format!("{:011o}\0", data.len()));
        put(136, format!("{:011o}\0", 1_500_000_000));
        put(257, "ustar\x0000".to_owned());
        block[156] = kind;
        block[157..157 + link.len()].copy_from_slice(link);
        self.finish(block, data)
    }

    pub(in crate::image) fn finish(&mut self, mut block: [u8; 512], data: &[u8]) -> &mut Self {
        block[148..156].fill(b' ');
        let sum: u32 = block.iter().map(|b| u32::from(*b)).sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        self.bytes.extend_from_slice(&block);
        self.bytes.extend_from_slice(data);
        self.bytes.resize(self.bytes.len().next_multiple_of(512), 0);
        self
    }

    pub(in crate::image) fn file(&mut self, path: &str, data: &[u8]) -> &mut Self {
        self.raw(b'0', path.as_bytes(), b"", 0o644, (0, 0), data)
    }

    pub(in crate::image) fn directory(
        &mut self,
        path: &str,
        mode: u32,
        owner: (u32, u32),
    ) -> &mut Self {
        self.raw(b'5', path.as_bytes(), b"", mode, owner, b"")
    }

    pub(in crate::image) fn symlink(&mut self, path: &str, target: &str) -> &mut Self {
        self.raw(b'2', path.as_bytes(), target.as_bytes(), 0o777, (0, 0), b"")
    }

    pub(in crate::image) fn hard_link(&mut self, path: &str, target: &str) -> &mut Self {
        self.raw(b'1', path.as_bytes(), target.as_bytes(), 0o644, (0, 0), b"")
    }

    pub(in crate::image) fn device(
        &mut self,
        kind: u8,
        path: &str,
        major: u32,
        minor: u32,
    ) -> &mut Self {
        let mut block = [0u8; 512];
        block[..path.len()].copy_from_slice(path.as_bytes());
        block[100..107].copy_from_slice(b"0000666");
        block[257..265].copy_from_slice(b"ustar\x0000");
        block[156] = kind;
        block[329..336].copy_from_slice(format!("{major:07o}").as_bytes());
        block[337..344].copy_from_slice(format!("{minor:07o}").as_bytes());
        self.finish(block, b"")
    }

    /// An extended header for the next entry.
    pub(in crate::image) fn pax(&mut self, records: &[(&str, &[u8])]) -> &mut Self {
        let mut data = Vec::new();
        for (keyword, value) in records {
            let rest = keyword.len() + value.len() + 3;
            let mut length = rest + 1;
            while length != rest + length.to_string().len() {
                length = rest + length.to_string().len();
            }
            data.extend_from_slice(format!("{length} {keyword}=").as_bytes());
            data.extend_from_slice(value);
            data.push(b'\n');
        }
        self.raw(b'x', b"pax", b"", 0o644, (0, 0), &data)
    }

    pub(in crate::image) fn end(&mut self) -> Vec<u8> {
        let mut bytes = std::mem::take(&mut self.bytes);
        bytes.resize(bytes.len() + 1024, 0);
        bytes
    }
}

fn read_all(bytes: &[u8]) -> Result<Vec<(Entry, Vec<u8>)>, Error> {
    let mut reader = Reader::new(bytes);
    let mut entries = Vec::new();
    while let Some(entry) = reader.next()? {
        let mut data = Vec::new();
        loop {
            let piece = reader.data()?.to_vec();
            if piece.is_empty() {
                break;
            }
            reader.consume(piece.len());
            data.extend(piece);
        }
        entries.push((entry, data));
    }
    Ok(entries)
}

#[test]
fn names_of_every_form() {
    let long = "d/".repeat(150) + "name";
    let mut builder = Builder::default();
    builder.file("short", b"1");
    builder
        .pax(&[("path", long.as_bytes()), ("mtime", b"-1.5"), ("uid", b"3000000000")])
        .file("cut", b"2");
    let gnu = [long.as_bytes(), b"\0"].concat();
    builder.raw(b'L', b"././@LongLink", b"", 0, (0, 0), &gnu).file("cut", b"3");
    builder.raw(b'K', b"././@LongLink", b"", 0, (0, 0), &gnu).symlink("link", "cut");
    builder.file("old-directory/", b"");
    let entries = read_all(&builder.end()).unwrap();
    assert_eq!(entries[0].0.path, b"short");
    assert_eq!(entries[1].0.path, long.as_bytes());
    assert_eq!(entries[1].0.modified, (-2, 500_000_000));
    assert_eq!(entries[1].0.uid, 3_000_000_000);
    assert_eq!(entries[2].0.path, long.as_bytes());
    assert_eq!(entries[2].1, b"3");
    assert_eq!(entries[3].0.link, long.as_bytes());
    assert_eq!(entries[4].0.kind, Kind::Directory);
}

#[test]
fn sparse_files_of_every_form() {
    let mut builder = Builder::default();
    let mut block = [0u8; 512];
    block[..3].copy_from_slice(b"old");
    block[124..135].copy_from_slice(b"00000000004");
    block[156] = b'S';
    block[386..397].copy_from_slice(b"00000000010");
    block[398..409].copy_from_slice(b"00000000004");
    block[483..494].copy_from_slice(b"00000000100");
    builder.finish(block, b"abcd");
    builder
        .pax(&[("GNU.sparse.size", b"64"), ("GNU.sparse.map", b"8,4"), ("GNU.sparse.name", b"v01")])
        .file("x", b"abcd");
    builder
        .pax(&[
            ("GNU.sparse.size", b"64"),
            ("GNU.sparse.offset", b"8"),
            ("GNU.sparse.numbytes", b"4"),
            ("path", b"v00"),
        ])
        .file("x", b"abcd");
    let mut data = b"1\n8\n4\n".to_vec();
    data.resize(512, 0);
    data.extend(b"abcd");
    builder
        .pax(&[
            ("GNU.sparse.major", b"1"),
            ("GNU.sparse.minor", b"0"),
            ("GNU.sparse.realsize", b"64"),
            ("GNU.sparse.name", b"v10"),
        ])
        .file("x", &data);
    let entries = read_all(&builder.end()).unwrap();
    for ((entry, data), name) in entries.iter().zip(["old", "v01", "v00", "v10"]) {
        assert_eq!(entry.path, name.as_bytes());
        assert_eq!((entry.size, data.as_slice()), (64, &b"abcd"[..]), "{name}");
        assert_eq!(entry.segments, Some(vec![Segment { offset: 8, length: 4 }]), "{name}");
    }
    for map in [&b"8,5"[..], b"62,4", b"8,2,4,2", b"8", b"a,b", b"18446744073709551615,4"] {
        let mut builder = Builder::default();
        builder.pax(&[("GNU.sparse.size", b"64"), ("GNU.sparse.map", map)]).file("x", b"abcd");
        assert!(read_all(&builder.end()).is_err(), "{map:?}");
    }
}

#[test]
fn broken_archives_are_refused() {
    let mut good = Builder::default();
    let good = good.file("a", &[7; 1000]).end();
    for length in [100, 513, 1024, 1500, 1513] {
        assert!(read_all(&good[..length]).is_err(), "{length}");
    }
    for length in [1512, 1536] {
        assert_eq!(read_all(&good[..length]).unwrap().len(), 1, "{length}");
    }
    for byte in [0, 100, 124, 148, 156] {
        let mut broken = good.clone();
        broken[byte] ^= 0x41;
        assert!(read_all(&broken).is_err(), "{byte}");
    }
    let mut hidden = vec![0; 512];
    hidden.extend(&good);
    assert!(read_all(&hidden).is_err());
    for records in [&b"5 a=b\n"[..], b"x a=b\n", b"99 a=b\n", b"6 a=bc", b"3 \n"] {
        let mut builder = Builder::default();
        builder.raw(b'x', b"pax", b"", 0, (0, 0), records).file("a", b"");
        assert!(read_all(&builder.end()).is_err(), "{records:?}");
    }
    let mut huge = Builder::default();
    huge.pax(&[("size", b"18446744073709551615")]).file("a", b"");
    assert!(read_all(&huge.end()).is_err());
}

#[test]
fn numbers_are_taken_as_go_takes_them() {
    let with = |offset: usize, field: &[u8]| {
        let mut block = [0u8; 512];
        block[0] = b'x';
        block[156] = b'5';
        block[257..265].copy_from_slice(b"ustar\x0000");
        block[offset..offset + field.len()].copy_from_slice(field);
        let entries = read_all(&Builder::default().finish(block, b"").end());
        entries.map(|mut entries| entries.remove(0).0)
    };
    for (field, mode) in [
        (&b"\0\x00000755"[..], 0o755),
        (b"   755 \0", 0o755),
        (b"0000755\0", 0o755),
        (b"755\0junk", 0o755),
        (b"\0\0\0\0\0\0\0\0", 0),
        (b"\x80\0\0\0\0\0\x01\xed", 0o755),
    ] {
        assert_eq!(with(100, field).unwrap().mode, mode, "{field:?}");
    }
    for (field, uid) in [
        (&b"\xff\xff\xff\xff\xff\xff\xff\xfe"[..], u32::MAX - 1),
        (b"\xff\xff\xff\xff\xff\xff\xff\xff", 0),
        (b"\x80\0\0\0\xff\xff\xff\xfe", u32::MAX - 1),
        (b"0001750\0", 1000),
    ] {
        assert_eq!(with(108, field).unwrap().uid, uid, "{field:?}");
    }
    let times = [(&b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xf6"[..], -10)];
    for (field, time) in times {
        assert_eq!(with(136, field).unwrap().modified.0, time);
    }
    for (offset, field) in [
        (100, &b"0000789\0"[..]),
        (100, b"07 55\0\0\0"),
        (108, b"\xff\xff\xff\xff\0\0\0\0"),
        (108, b"\x80\0\0\0\xff\xff\xff\xff"),
        (124, b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"),
    ] {
        assert!(with(offset, field).is_err(), "{offset} {field:?}");
    }
    let mut builder = Builder::default();
    builder.pax(&[("uid", b"-2"), ("gid", b"-1")]).file("a", b"");
    let entry = read_all(&builder.end()).unwrap().remove(0).0;
    assert_eq!((entry.uid, entry.gid), (u32::MAX - 1, 0));
}
