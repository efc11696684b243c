//! Volumes, and what of them containers mount.

use std::{
    collections::BTreeMap,
    path::{Component, Path, PathBuf},
};

use k8s_openapi::api::core::v1::{
    Container, DownwardAPIVolumeFile, KeyToPath, Volume as Given, VolumeMount,
};

use super::{
    Problem,
    downward::Downward,
    expand::expand,
    plan::{Facts, File, Pull, Source, SubPath, Volume},
};
use crate::{
    cri::v1::{IdMapping, ImageSpec, Mount, MountPropagation},
    play::manifest::{Content, Manifest},
    quantity,
};

/// Permissions of files for which nobody has said any.
const USUAL_MODE: u32 = 0o644;

/// Where a volume is, below the pod's directory.
pub(in crate::play) fn place(facts: &Facts, volume: &str) -> PathBuf {
    facts.directory.join("volumes").join(volume)
}

/// All volumes of a pod.
pub(super) fn all(
    manifest: &Manifest,
    downward: &Downward<'_>,
    problems: &mut Vec<Problem>,
    notes: &mut Vec<String>,
) -> Vec<Volume> {
    let Some(spec) = &manifest.pod.spec else { return Vec::new() };
    let group = spec.security_context.as_ref().and_then(|context| context.fs_group);
    let group = group.and_then(|group| u32::try_from(group).ok());
    let mut volumes: Vec<Volume> = Vec::new();
    for (number, given) in spec.volumes.iter().flatten().enumerate() {
        let path = format!("spec.volumes[{number}]");
        if given.name.is_empty() || given.name.contains('/') || given.name.starts_with('.') {
            problems.push(Problem::new(format!("{path}.name"), "is no name of a volume"));
        }
        if volumes.iter().any(|known| known.name == given.name) {
            problems.push(Problem::new(format!("{path}.name"), "is another volume's as well"));
        }
        match source(&path, given, manifest, downward, notes) {
            Ok(source) => volumes.push(Volume { name: given.name.clone(), source, group }),
            Err(problem) => problems.push(problem),
        }
    }
    volumes
}

fn source(
    path: &str,
    given: &Given,
    manifest: &Manifest,
    downward: &Downward<'_>,
    notes: &mut Vec<String>,
) -> Result<Source, Problem> {
    let mut files = Files { downward, files: Vec::new() };
    if let Some(of) = &given.empty_dir {
        let limit = of.size_limit.as_ref().and_then(|limit| quantity::whole(&limit.0));
        if of.medium.as_deref() == Some("Memory") {
            return Ok(Source::Memory(limit));
        }
        if limit.is_some() {
            notes.push(format!("{path}.emptyDir.sizeLimit is not enforced on a disk"));
        }
        return Ok(Source::Directory);
    }
    if let Some(of) = &given.host_path {
        if !of.path.starts_with('/') {
            return Err(Problem::new(format!("{path}.hostPath.path"), "must begin with /"));
        }
        let kind = of.type_.clone().unwrap_or_default();
        return Ok(Source::Host { path: of.path.clone().into(), kind });
    }
    if let Some(of) = &given.image {
        let reference = of.reference.clone().unwrap_or_default();
        if reference.is_empty() {
            return Err(Problem::new(format!("{path}.image.reference"), "is missing"));
        }
        let pull = pull(of.pull_policy.as_deref(), &reference);
        return Ok(Source::Image { reference, pull });
    }
    if let Some(of) = &given.config_map {
        let path = format!("{path}.configMap");
        let all = manifest.config_map(&path, &of.name, of.optional)?;
        files.keys(&path, all, of.items.as_deref(), mode(of.default_mode), of.optional)?;
    } else if let Some(of) = &given.secret {
        let path = format!("{path}.secret");
        let name = of.secret_name.as_deref().unwrap_or_default();
        let all = manifest.secret(&path, name, of.optional)?;
        files.keys(&path, all, of.items.as_deref(), mode(of.default_mode), of.optional)?;
    } else if let Some(of) = &given.downward_api {
        let path = format!("{path}.downwardAPI");
        files.own(&path, of.items.as_deref().unwrap_or_default(), mode(of.default_mode))?;
    } else if let Some(of) = &given.projected {
        let usual = mode(of.default_mode);
        for (number, source) in of.sources.iter().flatten().enumerate() {
            let path = format!("{path}.projected.sources[{number}]");
            if let Some(of) = &source.config_map {
                let path = format!("{path}.configMap");
                let all = manifest.config_map(&path, &of.name, of.optional)?;
                files.keys(&path, all, of.items.as_deref(), usual, of.optional)?;
            }
            if let Some(of) = &source.secret {
                let path = format!("{path}.secret");
                let all = manifest.secret(&path, &of.name, of.optional)?;
                files.keys(&path, all, of.items.as_deref(), usual, of.optional)?;
            }
            if let Some(of) = &source.downward_api {
                let items = of.items.as_deref().unwrap_or_default();
                files.own(&format!("{path}.downwardAPI"), items, usual)?;
            }
        }
    } else {
        return Err(Problem::new(path, "does not say what it is, such as `emptyDir: {}`"));
    }
    Ok(Source::Files(files.files))
}

fn mode(mode: Option<i32>) -> u32 {
    mode.and_then(|mode| u32::try_from(mode).ok()).unwrap_or(USUAL_MODE) & 0o777
}

/// Files of a volume, as they are gathered.
struct Files<'a> {
    downward: &'a Downward<'a>,
    files: Vec<File>,
}

impl Files<'_> {
    /// All keys, or those that are named.
    fn keys(
        &mut self,
        path: &str,
        mut all: Content,
        items: Option<&[KeyToPath]>,
        usual: u32,
        optional: Option<bool>,
    ) -> Result<(), Problem> {
        let Some(items) = items else {
            for (key, content) in all {
                self.add(path, key, content, usual)?;
            }
            return Ok(());
        };
        for (number, item) in items.iter().enumerate() {
            let path = format!("{path}.items[{number}]");
            let own = item.mode.map_or(usual, |own| mode(Some(own)));
            match all.remove(&item.key) {
                Some(content) => {
                    self.add(&format!("{path}.path"), item.path.clone(), content, own)?
                }
                None if optional == Some(true) => {}
                None => {
                    let reason = format!("there is no {:?} in it", item.key);
                    return Err(Problem::new(format!("{path}.key"), reason));
                }
            }
        }
        Ok(())
    }

    /// What the pod is told of itself.
    fn own(
        &mut self,
        path: &str,
        items: &[DownwardAPIVolumeFile],
        usual: u32,
    ) -> Result<(), Problem> {
        for (number, item) in items.iter().enumerate() {
            let path = format!("{path}.items[{number}]");
            let content = match (&item.field_ref, &item.resource_field_ref) {
                (Some(field), _) => {
                    self.downward.field(&format!("{path}.fieldRef"), &field.field_path)?
                }
                (None, Some(of)) => {
                    self.downward.resource(&format!("{path}.resourceFieldRef"), "", of)?
                }
                (None, None) => {
                    return Err(Problem::new(path, "has neither of fieldRef and resourceFieldRef"));
                }
            };
            let own = item.mode.map_or(usual, |own| mode(Some(own)));
            self.add(&format!("{path}.path"), item.path.clone(), content.into_bytes(), own)?;
        }
        Ok(())
    }

    fn add(
        &mut self,
        path: &str,
        name: String,
        content: Vec<u8>,
        mode: u32,
    ) -> Result<(), Problem> {
        if !stays_below(&name) || name.is_empty() {
            return Err(Problem::new(path, format!("{name:?} must be a path below the volume")));
        }
        self.files.retain(|known| known.path != name);
        self.files.push(File { path: name, content, mode });
        Ok(())
    }
}

fn stays_below(path: &str) -> bool {
    Path::new(path).components().all(|part| matches!(part, Component::Normal(_)))
}

/// When an image is pulled; of one that has no tag, or `latest`, anew each time.
pub(super) fn pull(policy: Option<&str>, image: &str) -> Pull {
    let name = image.rsplit('/').next().unwrap_or_default();
    let tag = name.split_once(':').map(|(_, tag)| tag);
    match policy {
        Some("Always") => Pull::Always,
        Some("Never") => Pull::Never,
        Some(_) => Pull::IfNotPresent,
        None if image.contains('@') => Pull::IfNotPresent,
        None if matches!(tag, None | Some("latest")) => Pull::Usually,
        None => Pull::IfNotPresent,
    }
}

/// What a container mounts, and parts of volumes that are made first.
pub(super) fn mounts(
    container: &Container,
    path: &str,
    volumes: &[Volume],
    variables: &BTreeMap<String, String>,
    (facts, mappings): (&Facts, &[IdMapping]),
    problems: &mut Vec<Problem>,
) -> (Vec<Mount>, Vec<SubPath>) {
    let (mut mounts, mut sub_paths) = (Vec::new(), Vec::new());
    for (number, given) in container.volume_mounts.iter().flatten().enumerate() {
        let path = format!("{path}.volumeMounts[{number}]");
        let Some(volume) = volumes.iter().find(|volume| volume.name == given.name) else {
            let reason = format!("names no volume of the pod: {:?}", given.name);
            problems.push(Problem::new(format!("{path}.name"), reason));
            continue;
        };
        let mount = one(&path, given, volume, variables, facts);
        match mount {
            Ok((mut mount, sub_path)) => {
                mount.uid_mappings = mappings.to_vec();
                mount.gid_mappings = mappings.to_vec();
                mounts.push(mount);
                sub_paths.extend(sub_path);
            }
            Err(problem) => problems.push(problem),
        }
    }
    (mounts, sub_paths)
}

fn one(
    path: &str,
    given: &VolumeMount,
    volume: &Volume,
    variables: &BTreeMap<String, String>,
    facts: &Facts,
) -> Result<(Mount, Option<SubPath>), Problem> {
    if !given.mount_path.starts_with('/') {
        return Err(Problem::new(format!("{path}.mountPath"), "must begin with /"));
    }
    let part = match (&given.sub_path, &given.sub_path_expr) {
        (Some(_), Some(_)) => {
            return Err(Problem::new(path, "has both a subPath and a subPathExpr"));
        }
        (Some(part), None) => part.clone(),
        (None, Some(part)) => expand(part, variables),
        (None, None) => String::new(),
    };
    if !stays_below(&part) {
        return Err(Problem::new(format!("{path}.subPath"), "must be a path below the volume"));
    }
    let propagation = match given.mount_propagation.as_deref() {
        Some("HostToContainer") => MountPropagation::PropagationHostToContainer,
        Some("Bidirectional") => MountPropagation::PropagationBidirectional,
        _ => MountPropagation::PropagationPrivate,
    };
    // Of files that are made from objects nobody is to have another idea.
    let is_made = matches!(volume.source, Source::Files(_) | Source::Image { .. });
    let mut mount = Mount {
        container_path: given.mount_path.clone(),
        readonly: given.read_only == Some(true) || is_made,
        recursive_read_only: given.recursive_read_only.as_deref() == Some("Enabled"),
        propagation: propagation.into(),
        ..Mount::default()
    };
    let base = match &volume.source {
        Source::Image { reference, .. } => {
            mount.image = Some(ImageSpec { image: reference.clone(), ..ImageSpec::default() });
            mount.image_sub_path = part;
            return Ok((mount, None));
        }
        Source::Host { path, .. } => path.clone(),
        _ => place(facts, &volume.name),
    };
    mount.host_path = base.join(&part).display().to_string();
    // A path without a part would end with a slash.
    mount.host_path = mount.host_path.trim_end_matches('/').to_owned();
    if mount.host_path.is_empty() {
        mount.host_path.push('/');
    }
    let sub_path = (!part.is_empty()).then(|| SubPath { volume: base, path: part.into() });
    Ok((mount, sub_path))
}
