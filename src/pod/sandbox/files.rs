//! The files of a sandbox: `hostname`, `hosts`, `resolv.conf`.
//!
//! Every value that ends up in a line of a file is checked for what would make it two lines.

use std::{
    fs, io,
    net::IpAddr,
    path::{Path, PathBuf},
};

use crate::{
    pod::error::{During, Error},
    spec::{
        self,
        config::{Dns, NamespaceMode, SandboxConfig},
    },
};

/// The longest host name of the kernel (`HOST_NAME_MAX`).
const MAX_HOSTNAME: usize = 64;

/// Checks what will be written.
pub(in crate::pod) fn check(config: &SandboxConfig) -> Result<(), spec::Error> {
    if config.hostname.len() > MAX_HOSTNAME {
        let reason = format!("is longer than {MAX_HOSTNAME} bytes");
        return Err(spec::Error::invalid("hostname", reason));
    }
    // It is shown in prompts and logs, and is a part of paths.
    let plain = |c: char| c.is_ascii_alphanumeric() || "-._".contains(c);
    if !config.hostname.chars().all(plain) {
        let reason = format!("{:?} may hold letters, digits, and - . _ alone", config.hostname);
        return Err(spec::Error::invalid("hostname", reason));
    }
    let Some(dns) = &config.dns else { return Ok(()) };
    for server in &dns.servers {
        one_word("dns_config.servers", server)?;
    }
    for search in &dns.searches {
        one_word("dns_config.searches", search)?;
    }
    dns.options.iter().try_for_each(|option| one_word("dns_config.options", option))
}

fn one_word(field: &'static str, text: &str) -> Result<(), spec::Error> {
    if text.chars().any(|c| c.is_control() || c.is_whitespace()) {
        let reason = format!("{text:?} must not contain white space or control characters");
        return Err(spec::Error::invalid(field, reason));
    }
    Ok(())
}

/// The paths of a sandbox's files.
#[derive(Debug)]
pub(in crate::pod) struct Files {
    pub hostname: PathBuf,
    pub hosts: PathBuf,
    pub resolv_conf: PathBuf,
}

impl Files {
    pub(in crate::pod) fn of(directory: &Path) -> Self {
        Self {
            hostname: directory.join("hostname"),
            hosts: directory.join("hosts"),
            resolv_conf: directory.join("resolv.conf"),
        }
    }

    /// Lets them be found in a directory where they are not, as the release before this one
    /// looks for them in that of the pod.
    pub(in crate::pod) fn link_into(&self, directory: &Path) -> Result<(), Error> {
        let elsewhere = Self::of(directory);
        for (file, link) in [
            (&self.hostname, &elsewhere.hostname),
            (&self.hosts, &elsewhere.hosts),
            (&self.resolv_conf, &elsewhere.resolv_conf),
        ] {
            if file != link {
                std::os::unix::fs::symlink(file, link).during("link", link)?;
            }
        }
        Ok(())
    }

    pub(in crate::pod) fn write(
        &self,
        config: &SandboxConfig,
        hostname: &str,
        addresses: &[IpAddr],
    ) -> Result<(), Error> {
        let write = |path: &Path, bytes: &[u8]| fs::write(path, bytes).during("write", path);
        write(&self.hostname, format!("{hostname}\n").as_bytes())?;
        let hosts = match config.security.namespaces.network {
            NamespaceMode::Node => read_or_empty(Path::new("/etc/hosts"))?,
            _ => hosts(hostname, addresses).into_bytes(),
        };
        write(&self.hosts, &hosts)?;
        let resolv_conf = match &config.dns {
            Some(dns) if *dns != Dns::default() => resolv_conf(dns).into_bytes(),
            _ => read_or_empty(Path::new("/etc/resolv.conf"))?,
        };
        write(&self.resolv_conf, &resolv_conf)?;
        if let Some(users) = config.security.namespaces.users {
            for path in [&self.hostname, &self.hosts, &self.resolv_conf] {
                std::os::unix::fs::chown(path, Some(users.uids.host), Some(users.gids.host))
                    .during("give to the pod's root", path)?;
            }
        }
        Ok(())
    }
}

fn hosts(hostname: &str, addresses: &[IpAddr]) -> String {
    let mut text = "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n".to_owned();
    // A fully qualified name has its first part beside it, as the kubelet writes it.
    let names = match hostname.split_once('.') {
        Some((first, _)) if !first.is_empty() => format!("{hostname}\t{first}"),
        _ => hostname.to_owned(),
    };
    for address in addresses {
        text.push_str(&format!("{address}\t{names}\n"));
    }
    text
}

fn resolv_conf(dns: &Dns) -> String {
    let mut text = String::new();
    if !dns.searches.is_empty() {
        text.push_str(&format!("search {}\n", dns.searches.join(" ")));
    }
    for server in &dns.servers {
        text.push_str(&format!("nameserver {server}\n"));
    }
    if !dns.options.is_empty() {
        text.push_str(&format!("options {}\n", dns.options.join(" ")));
    }
    text
}

/// The host's file as it is: its comments may be in any encoding.
fn read_or_empty(path: &Path) -> Result<Vec<u8>, Error> {
    match fs::read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        result => result.during("read", path),
    }
}

/// The id of this boot of the kernel (`random(4)`).
pub(in crate::pod) fn boot_id() -> Result<String, Error> {
    let path = Path::new("/proc/sys/kernel/random/boot_id");
    Ok(fs::read_to_string(path).during("read", path)?.trim().to_owned())
}

/// The host's name.
pub(in crate::pod) fn host_name() -> Result<String, Error> {
    let path = Path::new("/proc/sys/kernel/hostname");
    Ok(fs::read_to_string(path).during("read", path)?.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::{check, hosts, read_or_empty, resolv_conf};
    use crate::spec::config::{Dns, SandboxConfig};

    #[test]
    fn nothing_can_add_a_line() {
        let with_hostname = |hostname: &str| SandboxConfig {
            hostname: hostname.to_owned(),
            ..SandboxConfig::default()
        };
        assert!(check(&with_hostname("pod-1.example")).is_ok());
        for hostname in ["a\nb", "a b", "a\0", "a/b", "a\u{202e}b", &"x".repeat(65)] {
            assert!(check(&with_hostname(hostname)).is_err(), "{hostname:?}");
        }
        let dns = Dns { options: vec!["ndots:5\nnameserver 6.6.6.6".to_owned()], ..Dns::default() };
        assert!(check(&SandboxConfig { dns: Some(dns), ..SandboxConfig::default() }).is_err());
    }

    #[test]
    fn files_of_the_host_are_copied_byte_by_byte() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("hosts");
        assert_eq!(read_or_empty(&path).unwrap(), b"");
        std::fs::write(&path, b"127.0.0.1 localhost # caf\xe9\n").unwrap();
        assert_eq!(read_or_empty(&path).unwrap(), b"127.0.0.1 localhost # caf\xe9\n");
    }

    #[test]
    fn files_look_as_resolvers_expect() {
        let dns = Dns {
            servers: vec!["10.0.0.1".to_owned(), "fd00::1".to_owned()],
            searches: vec!["a.local".to_owned(), "local".to_owned()],
            options: vec!["ndots:5".to_owned()],
        };
        let expected =
            "search a.local local\nnameserver 10.0.0.1\nnameserver fd00::1\noptions ndots:5\n";
        assert_eq!(resolv_conf(&dns), expected);
        assert!(hosts("pod", &["10.88.0.2".parse().unwrap()]).ends_with("10.88.0.2\tpod\n"));
        let both = hosts("pod.sub.ns", &["10.88.0.2".parse().unwrap(), "fd00::2".parse().unwrap()]);
        let expected = "10.88.0.2\tpod.sub.ns\tpod\nfd00::2\tpod.sub.ns\tpod\n";
        assert!(both.ends_with(expected), "{both}");
    }

    #[test]
    fn more_searches_and_longer_options_than_old_resolvers_take_are_kept() {
        let dns = Dns {
            searches: (0..32).map(|n| format!("{}{n}.example", "x".repeat(50))).collect(),
            options: vec!["ndots:5".to_owned(), format!("x-{}", "y".repeat(300))],
            ..Dns::default()
        };
        assert!(
            check(&SandboxConfig { dns: Some(dns.clone()), ..SandboxConfig::default() }).is_ok()
        );
        let text = resolv_conf(&dns);
        let search = text.lines().next().unwrap();
        assert_eq!(search.split(' ').count(), 33);
        assert!(text.ends_with(&format!("options ndots:5 x-{}\n", "y".repeat(300))));
    }
}
