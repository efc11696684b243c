//! `criquet image import` and `criquet image export`.

use std::{
    fs::{self, File},
    io::{self, Write},
    os::fd::AsRawFd,
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{
    Client, Error,
    args::{Export, Import},
};
use crate::{
    admin::{
        self,
        v1::{
            ExportImagesRequest, ImageOrigin, ImportImagesRequest, ImportImagesResponse,
            ImportedImage,
        },
    },
    cli::{config::Config, serve},
    image::ImageStore,
    store::{Database, Durability},
};

/// Imports images and returns a line for each with its id and names. What was passed over is
/// told on standard error.
pub(super) fn import(
    client: &Client,
    config: &Config,
    arguments: &Import,
) -> Result<String, Error> {
    let input = Input::open(&arguments.archive)?;
    let request = ImportImagesRequest {
        path: input.path.to_string_lossy().into_owned(),
        origin: arguments.from.map_or(ImageOrigin::Unspecified, From::from).into(),
        namespace: arguments.namespace.clone().unwrap_or_default(),
    };
    let answer = match client.ask(client.admin().import_images(request.clone())) {
        Ok(answer) => answer,
        Err(Error::NoDaemon { .. }) => import_alone(config, &request)?,
        Err(error) => return Err(error),
    };
    for image in &answer.passed_over {
        eprintln!("criquet: passed over {}: {}", image.name, image.reason);
    }
    let line = |image: &ImportedImage| format!("{} {}\n", image.id, image.names.join(" "));
    Ok(answer.images.iter().map(line).collect())
}

fn import_alone(
    config: &Config,
    request: &ImportImagesRequest,
) -> Result<ImportImagesResponse, Error> {
    let origin = admin::import::origin(request);
    alone(config, |store| Ok(admin::import::response(store.import_from(&origin)?)))
}

/// Opens the store here, since no daemon has it.
fn alone<T>(
    config: &Config,
    work: impl FnOnce(&ImageStore) -> Result<T, Error>,
) -> Result<T, Error> {
    let _root = serve::lock_root(&config.root).map_err(Box::new)?;
    let _images = serve::lock_root(&config.image_options().root).map_err(Box::new)?;
    let path = config.root.join("state.db");
    let database = Arc::new(Database::open(&path, Durability::Power)?);
    work(&ImageStore::open(config.image_options(), database)?)
}

/// An archive by a path that the daemon can open as well.
struct Input {
    path: PathBuf,
    /// What was read from standard input, as long as this lives.
    _copy: Option<File>,
}

impl Input {
    fn open(archive: &Path) -> Result<Self, Error> {
        if archive != Path::new("-") {
            let path = archive.canonicalize().map_err(Error::archive("read", archive))?;
            return Ok(Self { path, _copy: None });
        }
        let failed = Error::archive("keep a copy of standard input in", Path::new("/var/tmp"));
        // Archives are read at several places, which a pipe cannot do.
        let mut copy = unnamed_file().map_err(&failed)?;
        io::copy(&mut io::stdin().lock(), &mut copy).map_err(&failed)?;
        let path = format!("/proc/{}/fd/{}", std::process::id(), copy.as_raw_fd()).into();
        Ok(Self { path, _copy: Some(copy) })
    }
}

/// A file that goes with its last descriptor.
fn unnamed_file() -> io::Result<File> {
    use rustix::fs::{Mode, OFlags};
    let flags = OFlags::RDWR | OFlags::TMPFILE | OFlags::CLOEXEC;
    Ok(rustix::fs::open("/var/tmp", flags, Mode::RUSR | Mode::WUSR)?.into())
}

/// Writes an archive; one that is not whole does not stay.
pub(super) fn export(client: &Client, config: &Config, arguments: &Export) -> Result<(), Error> {
    let path = &arguments.output;
    if path == Path::new("-") {
        return write(client, config, arguments, &mut io::stdout().lock());
    }
    let mut file = File::create(path).map_err(Error::archive("make", path))?;
    let written = write(client, config, arguments, &mut file);
    if written.is_err() {
        fs::remove_file(path).map_err(Error::archive("remove", path))?;
    }
    written
}

fn write(
    client: &Client,
    config: &Config,
    arguments: &Export,
    sink: &mut dyn Write,
) -> Result<(), Error> {
    let mut failure = None;
    let request = ExportImagesRequest { names: arguments.images.clone() };
    let received = client.wait(async {
        let mut stream = client.admin().export_images(request).await?.into_inner();
        while let Some(message) = stream.message().await? {
            if let Err(error) = sink.write_all(&message.part) {
                failure = Some(error);
                break;
            }
        }
        Ok(())
    });
    if let Some(error) = failure {
        return Err(Error::archive("write", &arguments.output)(error));
    }
    match received {
        Err(Error::NoDaemon { .. }) => {
            alone(config, |store| Ok(store.export(&arguments.images, sink)?))
        }
        result => result,
    }
}
