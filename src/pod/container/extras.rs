//! What a container gets on this node besides what is asked for, and what annotations may ask
//! for where the administrator allows them.

use std::{
    fs,
    os::{fd::AsFd, unix::fs::PermissionsExt},
    path::Path,
};

use super::refusals::Action;
use crate::{
    image::Users,
    pod::{
        Pods, allowed,
        error::{During, Error},
        id::ContainerId,
    },
    spec::{
        self,
        config::{ContainerConfig, Map},
        container::User,
        extras::{BoundFile, Extras},
        ulimit::Ulimit,
    },
    sys::tree,
};

/// The time zone, in a container as on a host.
const LOCAL_TIME: &str = "/etc/localtime";
/// The users, in a container as on a host.
const PASSWD: &str = "/etc/passwd";

impl Pods {
    /// What a container gets beside what its configuration says.
    ///
    /// # Errors
    /// An annotation that is allowed and makes no sense; a disk that refuses.
    pub(in crate::pod) fn extras(
        &self,
        id: &ContainerId,
        config: &ContainerConfig,
        annotations: &Map,
        (user, users): (&User, &Users),
        label: Option<&str>,
    ) -> Result<Extras, Error> {
        let options = &self.options.containers;
        let name = &config.metadata.name;
        let allowed = |feature| options.allowed_annotations.value(annotations, feature, name);
        let mut extras = Extras {
            env: options.default_env.clone(),
            ulimits: options.default_ulimits.clone(),
            ..Extras::default()
        };
        if let Some((key, text)) = allowed(allowed::ULIMITS) {
            for limit in text.split(',').filter(|limit| !limit.trim().is_empty()) {
                let read = Ulimit::parse(limit).map_err(|reason| wrong(key, &reason))?;
                extras.ulimits.push(read);
            }
        }
        if let Some((key, text)) = allowed(allowed::UMASK) {
            let umask = u32::from_str_radix(text, 8).ok().filter(|umask| *umask <= 0o777);
            let reason =
                || wrong(key, &format!("{text:?} is no mask; write octal digits, as 0027"));
            extras.umask = Some(umask.ok_or_else(reason)?);
        }
        if let Some((key, text)) = allowed(allowed::WRITABLE_CGROUPS) {
            extras.writable_cgroups = match text {
                "true" => true,
                "false" => false,
                _ => return Err(wrong(key, &format!("{text:?} is neither true nor false"))),
            };
            if extras.writable_cgroups && self.cgroups() != crate::runtime::cgroup::Version::V2 {
                return Err(wrong(key, "needs cgroup v2, which this node does not have"));
            }
        }
        if let Some((key, text)) = allowed(allowed::SECCOMP_NOTIFIER)
            && Action::parse(text).is_none()
        {
            return Err(wrong(key, &format!("{text:?} is neither \"stop\" nor \"log\"")));
        }
        let zone = options.timezone.iter().map(|source| BoundFile {
            source: source.clone(),
            destination: LOCAL_TIME.into(),
            is_writable: false,
        });
        extras.files.extend(zone);
        if options.passwd_entries && !user.is_known {
            extras.files.push(self.write_passwd(id, config, (user, users), label)?);
        }
        Ok(extras)
    }

    /// The image's users and the container's.
    fn write_passwd(
        &self,
        id: &ContainerId,
        config: &ContainerConfig,
        (user, users): (&User, &Users),
        label: Option<&str>,
    ) -> Result<BoundFile, Error> {
        let mut text = users.passwd()?;
        if text.last().is_some_and(|last| *last != b'\n') {
            text.push(b'\n');
        }
        let User { uid, gid, home, .. } = user;
        let home = if home.is_empty() { "/" } else { home };
        let entry = format!("{uid}:x:{uid}:{gid}:container user:{home}:/sbin/nologin\n");
        text.extend(entry.as_bytes());
        let source = self.passwd_file(id);
        fs::write(&source, text)
            .and_then(|()| fs::set_permissions(&source, fs::Permissions::from_mode(0o644)))
            .and_then(|()| match label {
                Some(label) => tree::set_label(fs::File::open(&source)?.as_fd(), label),
                None => Ok(()),
            })
            .during("write", &source)?;
        let is_writable = !config.security.readonly_rootfs;
        Ok(BoundFile { source, destination: Path::new(PASSWD).into(), is_writable })
    }
}

fn wrong(annotation: &str, reason: &str) -> Error {
    spec::Error::invalid("annotations", format!("{annotation}: {reason}")).into()
}
