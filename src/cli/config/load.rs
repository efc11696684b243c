//! From the files to one configuration.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

use serde::Deserialize;
use toml::Table;

use super::{
    Config, DEFAULT_FILE,
    error::{Error, Place, Problem, Problems},
    file::{self, insert},
};

/// What the command line decides.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Overrides {
    /// Instead of `root`.
    pub root: Option<PathBuf>,
    /// Instead of `state`.
    pub state: Option<PathBuf>,
    /// Instead of `listen`.
    pub listen: Option<String>,
}

/// Where each key was set last.
type Places = BTreeMap<String, Place>;

pub(super) fn load(named: Option<&Path>, overrides: &Overrides) -> Result<Config, Error> {
    let known = Table::try_from(Config::default()).unwrap_or_default();
    let (mut table, mut places, mut problems) = (Table::new(), Places::new(), Vec::new());
    for file in files(named)? {
        let text = fs::read_to_string(&file).map_err(|source| read_error(named, &file, source))?;
        let contents = file::parse(&file, &text, &known);
        problems.extend(contents.problems);
        for setting in contents.settings {
            places.insert(setting.path.join("."), setting.place);
            insert(&mut table, &setting.path, setting.value);
        }
    }
    match Config::deserialize(table) {
        Ok(mut config) => {
            overrides.apply(&mut config, &mut places);
            problems.extend(config.validate().into_iter().map(|problem| placed(problem, &places)));
            if problems.is_empty() { Ok(config) } else { Err(Error::Invalid(Problems(problems))) }
        }
        Err(error) => {
            problems.push(Problem::new("", error.message()));
            Err(Error::Invalid(Problems(problems)))
        }
    }
}

/// The files in the order in which they count. Only the default one may be absent.
fn files(named: Option<&Path>) -> Result<Vec<PathBuf>, Error> {
    let file = named.unwrap_or(Path::new(DEFAULT_FILE));
    let mut files = Vec::new();
    if named.is_some() || file.exists() {
        files.push(file.to_owned());
    }
    files.extend(drop_ins(&file.with_file_name("config.d"))?);
    Ok(files)
}

fn drop_ins(directory: &Path) -> Result<Vec<PathBuf>, Error> {
    let failed = |source| Error::Read { path: directory.to_owned(), source };
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(failed)?,
    };
    let mut files: Vec<PathBuf> = entries
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<_, _>>()
        .map_err(failed)?;
    files.retain(|file| file.extension().is_some_and(|extension| extension == "toml"));
    files.sort();
    Ok(files)
}

fn read_error(named: Option<&Path>, path: &Path, source: io::Error) -> Error {
    let path = path.to_owned();
    if source.kind() == io::ErrorKind::NotFound && named == Some(&path) {
        return Error::Absent { path };
    }
    Error::Read { path, source }
}

fn placed(mut problem: Problem, places: &Places) -> Problem {
    problem.place = places.get(&problem.key).cloned();
    problem
}

impl Overrides {
    fn apply(&self, config: &mut Config, places: &mut Places) {
        let mut replace = |key: &str, target: &mut PathBuf, value: &Option<PathBuf>| {
            if let Some(value) = value {
                places.remove(key);
                target.clone_from(value);
            }
        };
        replace("root", &mut config.root, &self.root);
        replace("state", &mut config.state, &self.state);
        if let Some(listen) = &self.listen {
            places.remove("listen");
            config.listen.clone_from(listen);
        }
    }
}
