//! Filters of system calls, compiled for containers.

use std::{
    collections::HashMap,
    fs, io,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

use tracing::warn;

use crate::{
    pod::{
        Pods, blocking,
        container::Container,
        error::{During, Error, Reason},
    },
    runtime::seccomp,
    spec::{
        self,
        config::{ContainerConfig, ContainerSecurity, Profile},
    },
    sys::seccomp::{NEW_LISTENER, to_bytes},
};

/// A filter as the monitor takes it.
#[derive(Debug)]
pub(in crate::pod) struct Filter {
    pub program: Vec<u8>,
    pub flags: u32,
}

/// Sets of capabilities whose filters are kept: a node has few, and whoever makes up more has
/// them compiled again.
const MAX_DEFAULTS: usize = 64;

/// Compiled default filters, by the capabilities that they depend on.
#[derive(Default)]
pub(in crate::pod) struct Filters {
    // Held for one look-up.
    defaults: Mutex<HashMap<Vec<String>, Arc<Filter>>>,
}

impl Pods {
    /// The filter of a container; none for an unconfined one. Where its pod wants to know what
    /// it refuses, it has a listener.
    pub(in crate::pod) async fn filter_of(
        &self,
        container: &Container,
    ) -> Result<Option<Arc<Filter>>, Error> {
        let filter = self.plain_filter_of(container).await?;
        if self.refusal_action(container).is_none() {
            return Ok(filter);
        }
        let with_listener = |filter: Arc<Filter>| {
            let (program, flags) = (filter.program.clone(), filter.flags | NEW_LISTENER);
            Arc::new(Filter { program, flags })
        };
        Ok(filter.map(with_listener))
    }

    async fn plain_filter_of(&self, container: &Container) -> Result<Option<Arc<Filter>>, Error> {
        let security = container.record().config.security.clone();
        match security.seccomp {
            _ if security.privileged => Ok(None),
            None if self.rules().seccomp_default => self.filters.default_for(&security).map(Some),
            None | Some(Profile::Unconfined) => Ok(None),
            Some(Profile::RuntimeDefault) => self.filters.default_for(&security).map(Some),
            Some(Profile::Localhost(path)) => self.own_filter(container, path).await.map(Some),
        }
    }

    /// The filter that was compiled when the container was created: what became of its profile
    /// since then is nothing to its execs.
    async fn own_filter(
        &self,
        container: &Container,
        profile: String,
    ) -> Result<Arc<Filter>, Error> {
        if let Some(filter) = container.filter() {
            return Ok(filter);
        }
        let file = self.filter_file(&container.id);
        let kept = blocking::own_files(move || Filter::read(&file)).await?;
        let filter = match kept {
            Some(filter) => Arc::new(filter),
            // Of the release before this one, which kept none.
            None => {
                let security = container.record().config.security.clone();
                self.user_paths.run(move || local(Path::new(&profile), &security)).await?
            }
        };
        if !container.has_ended() {
            container.set_filter(Some(Arc::clone(&filter)));
        }
        Ok(filter)
    }
}

impl Filter {
    /// Writes it as [`Filter::read`] reads it: the flags, then the program.
    pub(in crate::pod) fn write(&self, file: &Path) -> Result<(), Error> {
        let bytes = [self.flags.to_le_bytes().as_slice(), &self.program].concat();
        fs::write(file, bytes).during("write", file)
    }

    /// The filter in a file; none where there is no file.
    fn read(file: &Path) -> Result<Option<Self>, Error> {
        let bytes = match fs::read(file) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            read => read.during("read", file)?,
        };
        let Some((flags, program)) = bytes.split_first_chunk() else {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof)).during("read", file);
        };
        Ok(Some(Self { program: program.to_vec(), flags: u32::from_le_bytes(*flags) }))
    }
}

impl Filters {
    fn default_for(&self, security: &ContainerSecurity) -> Result<Arc<Filter>, Error> {
        // Everything that the daemon could give: those that it lacks open no system call.
        let all = spec::capabilities::from_bits(u64::MAX);
        let permitted = spec::capabilities::permitted(security, &all)?;
        let mut key: Vec<String> = permitted.iter().map(ToString::to_string).collect();
        key.sort();
        let lock = || self.defaults.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(filter) = lock().get(&key) {
            return Ok(Arc::clone(filter));
        }
        let filter = Arc::new(compile(&spec::seccomp::default_profile(&permitted))?);
        let mut defaults = lock();
        if defaults.len() >= MAX_DEFAULTS {
            defaults.clear();
        }
        defaults.insert(key, Arc::clone(&filter));
        drop(defaults);
        Ok(filter)
    }
}

fn compile(profile: &oci_spec::runtime::LinuxSeccomp) -> Result<Filter, Error> {
    let filter = seccomp::compile(profile)?;
    Ok(Filter { program: to_bytes(&filter.program), flags: filter.flags })
}

/// The largest profile, in bytes; Docker's has 15 thousand.
const MAX_PROFILE: u64 = 4 << 20;

fn local(path: &Path, security: &ContainerSecurity) -> Result<Arc<Filter>, Error> {
    let field = "security_context.seccomp.localhost_ref";
    if !path.is_absolute() {
        let reason = format!("{path:?} must be an absolute path of a profile on this node");
        return Err(spec::Error::invalid(field, reason).into());
    }
    // A path of the user's: a device or a pipe there must not be read.
    let is_file = fs::metadata(path)
        .is_ok_and(|metadata| metadata.is_file() && metadata.len() <= MAX_PROFILE);
    if !is_file {
        let reason = format!(
            "there is no profile at {}: it must be a file of at most {MAX_PROFILE} bytes",
            path.display()
        );
        return Err(spec::Error::invalid(field, reason).into());
    }
    let json = fs::read(path).during("read seccomp profile", path)?;
    let all = spec::capabilities::from_bits(u64::MAX);
    let capabilities = spec::capabilities::permitted(security, &all).map_err(Reason::from)?;
    let machine = spec::seccomp::Machine { capabilities: &capabilities, kernel: kernel()? };
    let parsed = spec::seccomp::parse(&json, &machine).map_err(Reason::from)?;
    if !parsed.unknown.is_empty() {
        let fields = parsed.unknown.join(", ");
        warn!(profile = %path.display(), fields, "fields that are not known are passed over");
    }
    compile(&parsed.profile).map(Arc::new)
}

fn kernel() -> Result<(u32, u32), Error> {
    let path = Path::new("/proc/sys/kernel/osrelease");
    let release = fs::read_to_string(path).during("read", path)?;
    Ok(spec::seccomp::version(&release).unwrap_or_default())
}

/// The filter that a container has for itself, from a profile of the node's; none for one that
/// has that of the daemon or none at all. Waits for a path of the user's.
///
/// # Errors
/// A profile that cannot be read or makes no filter.
pub(in crate::pod) fn own_filter(config: &ContainerConfig) -> Result<Option<Arc<Filter>>, Error> {
    match &config.security.seccomp {
        Some(Profile::Localhost(path)) if !config.security.privileged => {
            local(Path::new(path), &config.security).map(Some)
        }
        _ => Ok(None),
    }
}
