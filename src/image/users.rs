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

/// Names are bytes: what else is in a line may be in any encoding.
struct Account {
    name: Vec<u8>,
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

    /// The text of `/etc/passwd`; empty where there is none.
    ///
    /// # Errors
    /// One that cannot be read, or is larger than 10 MiB.
    pub fn passwd(&self) -> Result<Vec<u8>, Error> {
        let mut text = Vec::new();
        let Some(file) = &self.passwd else { return Ok(text) };
        let failed = |reason: String| Error::UserDatabase {
            image: self.image,
            name: "passwd".to_owned(),
            reason,
        };
        let own = Positioned { file, offset: 0 };
        let read = own.take(FILE_LIMIT + 1).read_to_end(&mut text);
        read.map_err(|error| failed(error.to_string()))?;
        match text.len() as u64 > FILE_LIMIT {
            true => Err(failed("the file is larger than 10 MiB".to_owned())),
            false => Ok(text),
        }
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
        match self.account(|account| account.name == name.as_bytes())? {
            Some(account) => self.with_groups(account),
            None => Err(self.unknown("user", name, "passwd")),
        }
    }

    /// The id of a group's name, which the image must know.
    pub fn group_by_name(&self, name: &str) -> Result<u32, Error> {
        let mut found = None;
        self.each_line(&self.group, name, |line| {
            let mut fields = line.split(|byte| *byte == b':');
            if fields.next() == Some(name.as_bytes()) {
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
        parse_id(text.as_bytes()).map(Some).ok_or_else(|| Error::UserDatabase {
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
            let mut fields = line.splitn(4, |byte| *byte == b':').skip(2);
            let is_member = |member: &[u8]| member.trim_ascii() == account.name;
            if let (Some(gid), Some(members)) = (fields.next(), fields.next())
                && members.split(|byte| *byte == b',').any(is_member)
                && let Some(gid) = parse_id(gid)
            {
                groups.push(gid);
            }
            groups.len() < GROUPS
        })?;
        groups.sort_unstable();
        groups.dedup();
        let Account { name, uid, gid, home } = account;
        let name = String::from_utf8_lossy(&name).into_owned();
        Ok(User { uid, gid, name: Some(name), home, groups })
    }

    /// Hands the lines to `take` until it has enough. A file that is not there has none.
    fn each_line(
        &self,
        file: &Option<File>,
        name: &str,
        mut take: impl FnMut(&[u8]) -> bool,
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
    fn parse(line: &[u8]) -> Option<Self> {
        let fields: Vec<&[u8]> = line.splitn(7, |byte| *byte == b':').collect();
        let [name, _, uid, gid, _, home, ..] = fields[..] else { return None };
        // A name of digits could be taken for an id, which is never meant.
        if name.is_empty() || name.iter().all(u8::is_ascii_digit) {
            return None;
        }
        let home = std::str::from_utf8(home).unwrap_or_default();
        let home = if home.is_empty() || home.contains(char::is_control) { "/" } else { home };
        let (uid, gid) = (parse_id(uid)?, parse_id(gid)?);
        Some(Self { name: name.to_vec(), uid, gid, home: home.to_owned() })
    }
}

fn parse_id(text: &[u8]) -> Option<u32> {
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(text).ok()?.parse::<u32>().ok().filter(|id| *id <= LARGEST_ID)
}

/// Lines without comments, each as long as it likes within the file's limit.
fn lines(file: impl BufRead, mut take: impl FnMut(&[u8]) -> bool) -> io::Result<()> {
    let mut file = file.take(FILE_LIMIT + 1);
    let mut line = Vec::new();
    loop {
        line.clear();
        if file.read_until(b'\n', &mut line)? == 0 {
            return Ok(());
        }
        if file.limit() == 0 {
            let text = "the file is larger than 10 MiB";
            return Err(io::Error::new(io::ErrorKind::InvalidData, text));
        }
        let text = line.trim_ascii();
        if !text.is_empty() && !text.starts_with(b"#") && !take(text) {
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
    fn a_line_may_be_long_and_in_any_encoding() {
        let passwd = b"caf\xe9:x:9:9::/home/caf\xe9:/bin/sh\n\
            alice:x:1000:1001:M\xfcller:/home/alice:/bin/sh\n";
        let members: Vec<String> = (0..90_000).map(|number| format!("user{number}")).collect();
        let group = format!("big:x:60:{},alice\nafter:x:61:alice\n", members.join(","));
        let users = users(passwd, group.as_bytes());
        for text in ["alice", "1000"] {
            let user = users.find(text).unwrap();
            assert_eq!((user.uid, user.gid, user.home.as_str()), (1000, 1001, "/home/alice"));
            assert_eq!(user.groups, [60, 61]);
        }
        assert_eq!(users.find("0:after").unwrap().gid, 61);
        let user = users.find("9").unwrap();
        assert_eq!((user.gid, user.home.as_str()), (9, "/"), "a home that no text names");
    }

    #[test]
    fn databases_are_bounded() {
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
