//! Who a container runs as.

use std::collections::HashSet;

use crate::{
    image::{Image, Users},
    pod::error::Error,
    spec::{
        self,
        config::{ContainerConfig, GroupsPolicy, IdRange, RunAs},
        container::User,
    },
};

/// `NGROUPS_MAX` of the kernel.
const MAX_GROUPS: usize = 65_536;

/// The user that a configuration names, or else the image, looked up in the image.
pub(in crate::pod) fn of(
    config: &ContainerConfig,
    users: &Users,
    image: &Image,
) -> Result<User, Error> {
    let security = &config.security;
    if security.run_as_group.is_some() && security.run_as.is_none() {
        let reason = "needs run_as_user or run_as_username as well";
        return Err(spec::Error::invalid("run_as_group", reason).into());
    }
    let found = match &security.run_as {
        Some(RunAs::Uid(uid)) => users.by_uid(*uid)?,
        Some(RunAs::Username(name)) => users.find(name)?,
        None => users.find(&image.config.user)?,
    };
    let gid = security.run_as_group.unwrap_or(found.gid);
    let of_image = match security.groups_policy {
        GroupsPolicy::Merge => found.groups,
        GroupsPolicy::Strict => Vec::new(),
    };
    let mut groups = vec![gid];
    let mut known = HashSet::from([gid]);
    for group in of_image.into_iter().chain(security.supplemental_groups.iter().copied()) {
        if known.insert(group) {
            groups.push(group);
        }
    }
    if groups.len() > MAX_GROUPS {
        let reason = format!(
            "{} groups, those of the image included, are more than the {MAX_GROUPS} that a \
             process can have",
            groups.len()
        );
        return Err(spec::Error::invalid("supplemental_groups", reason).into());
    }
    if let Some(users) = security.namespaces.users {
        let is_outside = |id: &u32, range: IdRange| *id >= range.count;
        if is_outside(&found.uid, users.uids) || groups.iter().any(|id| is_outside(id, users.gids))
        {
            let reason = format!(
                "user {} or one of its groups {groups:?} is none of the {} users and {} groups of \
                 the pod's user namespace",
                found.uid, users.uids.count, users.gids.count
            );
            return Err(spec::Error::invalid("run_as_user", reason).into());
        }
    }
    let is_known = found.name.is_some();
    Ok(User { uid: found.uid, gid, groups, home: found.home, is_known })
}
