//! The users and groups of an image, from its `/etc/passwd` and `/etc/group`. Both are a
//! stranger's files: they are read through descriptors, as streams, and bounded.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, Read},
    os::unix::fs::FileExt,
    path::Path,
};

use super::{Error, ImageId, stack::Stack};

const FILE_LIMIT: u64 = 10 << 20;
const LINE_LIMIT: usize = 64 << 10;
/// The kernel takes at most this many supplementary groups.
const GROUPS: usize = 65536;
const LARGEST_ID: u32 = i32::MAX as u32;

/// The user database of an image.
#[derive(Debug)]
pub struct Users {
    image: ImageId,
    passwd: Option<File>,
    group: Option<File>,
}

/// Whom a process runs as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// User id.
    pub uid: u32,
    /// Primary group id.
    pub gid: u32,
    /// The name, where the image has one for the id.
    pub name: Option<String>,
    /// The home directory, `/` where none is known.
    pub home: String,
    /// The supplementary groups that `/etc/group` lists the user's name in.
    pub groups: Vec<u32>,
}

struct Account {
    name: String,
    uid: u32,
    gid: u32,
    home: String,
}

impl Users {
    pub(super) fn open(image: ImageId, stack: &Stack) -> Result<Self, Error> {
        let open = |path: &str| {
            stack.file(Path::new(path)).map_err(|error| Error::UserDatabase {
                image,
                name: path.to_owned(),
                reason: error.to_string(),
            })
        };
        Ok(Self { image, passwd: open("etc/passwd")?, group: open("etc/group")? })
    }

    /// Finds `user`, `uid`, `user:group` and mixtures of them; nothing means user 0. Digits
    /// are always an id and never a name.
    pub fn find(&self, text: &str) -> Result<User, Error> {
        let (user, group) = match text.split_once(':') {
            Some((user, group)) => (user, Some(group).filter(|group| !group.is_empty())),
            None => (text, None),
        };
        let user = if user.is_empty() { "0" } else { user };
        let mut found = match self.id(user)? {
            Some(uid) => self.by_uid(uid)?,
            None => self.by_name(user)?,
        };
        if let Some(group) = group {
            found.gid = match self.id(group)? {
                Some(gid) => gid,
                None => self.group_by_name(group)?,
            };
        }
        Ok(found)
    }

    /// The user of an id, whether or not the image knows it.
    pub fn by_uid(&self, uid: u32) -> Result<User, Error> {
        match self.account(|account| account.uid == uid)? {
            Some(account) => self.with_groups(account),
            None => Ok(User { uid, gid: 0, name: None, home: "/".to_owned(), groups: Vec::new() }),
        }
    }

    /// The user of a name, which the image must know.
    pub fn by_name(&self, name: &str) -> Result<User, Error> {
        match self.account(|account| account.name == name)? {
            Some(account) => self.with_groups(account),
            None => Err(self.unknown("user", name, "passwd")),
        }
    }

    /// The id of a group's name, which the image must know.
    pub fn group_by_name(&self, name: &str) -> Result<u32, Error> {
        let mut found = None;
        self.each_line(&self.group, name, |line| {
            let mut fields = line.split(':');
            if fields.next() == Some(name) {
                found = fields.nth(1).and_then(parse_id);
            }
            found.is_none()
        })?;
        found.ok_or_else(|| self.unknown("group", name, "group"))
    }

    fn unknown(&self, what: &'static str, name: &str, file: &'static str) -> Error {
        Error::User { image: Box::new(self.image), what, name: name.to_owned(), file }
    }

    /// A text of digits as an id; nothing for a name.
    fn id(&self, text: &str) -> Result<Option<u32>, Error> {
        if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
            return Ok(None);
        }
        parse_id(text).map(Some).ok_or_else(|| Error::UserDatabase {
            image: self.image,
            name: text.to_owned(),
            reason: format!("an id is at most {LARGEST_ID}"),
        })
    }

    fn account(&self, is_wanted: impl Fn(&Account) -> bool) -> Result<Option<Account>, Error> {
        let mut found = None;
        self.each_line(&self.passwd, "passwd", |line| {
            found = Account::parse(line).filter(|account| is_wanted(account));
            found.is_none()
        })?;
        Ok(found)
    }

    fn with_groups(&self, account: Account) -> Result<User, Error> {
        let mut groups = Vec::new();
        self.each_line(&self.group, "group", |line| {
            let fields: Vec<&str> = line.splitn(4, ':').collect();
            if let [_, _, gid, members] = fields[..]
                && members.split(',').any(|member| member.trim() == account.name)
                && let Some(gid) = parse_id(gid)
            {
                groups.push(gid);
            }
            groups.len() < GROUPS
        })?;
        groups.sort_unstable();
        groups.dedup();
        let Account { name, uid, gid, home } = account;
        Ok(User { uid, gid, name: Some(name), home, groups })
    }

    /// Hands the lines to `take` until it has enough. A file that is not there has none.
    fn each_line(
        &self,
        file: &Option<File>,
        name: &str,
        mut take: impl FnMut(&str) -> bool,
    ) -> Result<(), Error> {
        let Some(file) = file else { return Ok(()) };
        let failed = |error: io::Error| Error::UserDatabase {
            image: self.image,
            name: name.to_owned(),
            reason: error.to_string(),
        };
        let own = Positioned { file, offset: 0 };
        lines(BufReader::new(own), |line| take(line)).map_err(failed)
    }
}

/// Reads a file at an offset of its own, so that look-ups can go on side by side.
struct Positioned<'a> {
    file: &'a File,
    offset: u64,
}

impl Read for Positioned<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.file.read_at(buffer, self.offset)?;
        self.offset += length as u64;
        Ok(length)
    }
}

impl Account {
    fn parse(line: &str) -> Option<Self> {
        let fields: Vec<&str> = line.split(':').collect();
        let [name, _, uid, gid, _, home, ..] = fields[..] else { return None };
        // A name of digits could be taken for an id, which is never meant.
        if name.is_empty() || name.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        let home = if home.is_empty() || home.contains(char::is_control) { "/" } else { home };
        Some(Self {
            name: name.to_owned(),
            uid: parse_id(uid)?,
            gid: parse_id(gid)?,
            home: home.to_owned(),
        })
    }
}

fn parse_id(text: &str) -> Option<u32> {
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    text.parse::<u32>().ok().filter(|id| *id <= LARGEST_ID)
}

/// Lines without comments; lines that are no text are passed over, long ones refused.
fn lines(file: impl BufRead, mut take: impl FnMut(&str) -> bool) -> io::Result<()> {
    let wrong = |text| io::Error::new(io::ErrorKind::InvalidData, text);
    let mut file = file.take(FILE_LIMIT + 1);
    let mut line = Vec::new();
    loop {
        line.clear();
        let mut bounded = (&mut file).take(LINE_LIMIT as u64 + 1);
        if bounded.read_until(b'\n', &mut line)? == 0 {
            return Ok(());
        }
        if file.limit() == 0 {
            return Err(wrong("the file is larger than 10 MiB"));
        }
        if line.len() > LINE_LIMIT {
            return Err(wrong("a line is longer than 64 KiB"));
        }
        let Ok(text) = std::str::from_utf8(&line) else { continue };
        let text = text.trim();
        if !text.is_empty() && !text.starts_with('#') && !take(text) {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt};

    use super::*;
    use crate::{image::Digest, kind::Kind};

    fn users(passwd: &[u8], group: &[u8]) -> Users {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir(directory.path().join("etc")).unwrap();
        fs::write(directory.path().join("etc/passwd"), passwd).unwrap();
        fs::write(directory.path().join("etc/group"), group).unwrap();
        let stack = Stack::open(&[directory.path().to_owned()]).unwrap();
        Users::open(ImageId(Digest::of(b"")), &stack).unwrap()
    }

    const PASSWD: &[u8] = b"# comment\nroot:x:0:0:root:/root:/bin/sh\n\xff\xfe:x:1:1::/:\n\
        www:x:33:34::/var/www:/bin/false\n1000:x:0:0::/evil:\nbig:x:4294967296:1::/:\n\
        wrap:x:-1:0::/:\nhomeless:x:50:51::\nshort:x:1\nodd:x:60:60::/a\tb:/bin/sh";
    const GROUP: &[u8] = b"root:x:0:\nstaff:x:50:www,other\nextra:x:60: www \ndup:x:50:www\nbad:x:x:www\n2000:x:7:\n";

    #[test]
    fn look_ups() {
        let users = users(PASSWD, GROUP);
        for (text, uid, gid, home, groups) in [
            ("", 0, 0, "/root", &[][..]),
            ("root", 0, 0, "/root", &[]),
            ("www", 33, 34, "/var/www", &[50, 60]),
            ("33", 33, 34, "/var/www", &[50, 60]),
            ("33:7", 33, 7, "/var/www", &[50, 60]),
            ("www:staff", 33, 50, "/var/www", &[50, 60]),
            ("www:", 33, 34, "/var/www", &[50, 60]),
            (":staff", 0, 50, "/root", &[]),
            // Digits are never a name.
            ("1000", 1000, 0, "/", &[]),
            ("1000:2000", 1000, 2000, "/", &[]),
            ("2147483647", 2147483647, 0, "/", &[]),
            ("homeless", 50, 51, "/", &[]),
            ("odd", 60, 60, "/", &[]),
        ] {
            let user = users.find(text).unwrap();
            assert_eq!(
                (user.uid, user.gid, user.home.as_str(), &user.groups[..]),
                (uid, gid, home, groups),
                "{text}"
            );
        }
        for wrong in [
            "nobody",
            "www:nobody",
            "big",
            "wrap",
            "short",
            "-1",
            "2147483648",
            "4294967296",
            "99999999999999999999",
            "0:4294967296",
            "www:-1",
            " root",
            "root\n",
        ] {
            let error = users.find(wrong).expect_err(wrong);
            assert_eq!(error.kind(), Kind::InvalidArgument);
            assert!(error.to_string().contains(&ImageId(Digest::of(b"")).to_string()), "{error}");
        }
    }

    #[test]
    fn databases_are_bounded() {
        let long_line =
            [b"a:x:1:1::/:".as_slice(), &vec![b'x'; 70_000], b"\nwww:x:1:1::/:\n"].concat();
        assert!(users(&long_line, b"").find("www").unwrap_err().to_string().contains("64 KiB"));
        let large = [b"x:x:1:1::/:\n".repeat(1_000_000), b"www:x:1:1::/:\n".to_vec()].concat();
        assert!(users(&large, b"").find("www").unwrap_err().to_string().contains("10 MiB"));
        assert!(users(&[], &[]).find("5:5").is_ok());
    }

    #[test]
    fn only_regular_files_are_read() {
        let directory = tempfile::tempdir().unwrap();
        let etc = directory.path().join("etc");
        fs::create_dir(&etc).unwrap();
        fs::set_permissions(&etc, fs::Permissions::from_mode(0o755)).unwrap();
        let fifo = rustix::fs::FileType::Fifo;
        rustix::fs::mknodat(rustix::fs::CWD, etc.join("passwd"), fifo, rustix::fs::Mode::RWXU, 0)
            .unwrap();
        let stack = Stack::open(&[directory.path().to_owned()]).unwrap();
        let error = Users::open(ImageId(Digest::of(b"")), &stack).unwrap_err();
        assert!(error.to_string().contains("regular file"), "{error}");
    }
}
