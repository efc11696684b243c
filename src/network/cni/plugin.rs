//! Executes one CNI plugin: environment, configuration on its input, result or error on
//! its output, a deadline.

use std::{
    io::ErrorKind,
    os::unix::process::ExitStatusExt,
    path::{Path, PathBuf},
    process::Stdio,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process_group};
use serde::Deserialize;
use serde_json::Value;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWriteExt},
    process::{Child, Command},
    time::timeout,
};

use super::{
    super::Error,
    orphans::{self, Mark},
};
use crate::sys::descriptors;

/// No result is larger; what a plugin writes beyond is cut off.
const OUTPUT_LIMIT: u64 = 1 << 20;
/// How long what a plugin wrote may take to be read after its end.
const AFTER_THE_END: Duration = Duration::from_millis(500);

/// The code of a plugin that does not know a command.
const UNKNOWN_COMMAND: u32 = 4;

/// One call of a plugin.
pub(super) struct Call<'a> {
    /// The CNI command.
    pub(super) verb: &'static str,
    /// Environment beyond the command and the path of plugins.
    pub(super) environment: &'a [(&'static str, String)],
    /// Where plugins are.
    pub(super) directories: &'a [PathBuf],
    /// How long it may take.
    pub(super) limit: Duration,
    /// Who calls it; none where nobody will look for it.
    pub(super) mark: Option<&'a Mark>,
}

impl Call<'_> {
    /// Executes the plugin with its configuration; nothing is what some verbs answer.
    pub(super) async fn execute(
        &self,
        plugin: &str,
        configuration: &Value,
    ) -> Result<Option<Value>, Error> {
        let program = self.find(plugin)?;
        let mut child = self.start(&program)?;
        let mut group = Group(child.id());
        let input = configuration.to_string();
        let begin = Instant::now();
        let finished = timeout(self.limit, converse(&mut child, input.as_bytes())).await;
        let Ok(outcome) = finished else {
            // It is not waited for: what the kernel does not end would hold up the pod.
            return Err(Error::PluginTimeout {
                plugin: plugin.to_owned(),
                verb: self.verb,
                seconds: self.limit.as_secs(),
            });
        };
        group.0 = None;
        tracing::debug!(plugin, verb = self.verb, took = ?begin.elapsed(), "a CNI plugin ended");
        let output =
            outcome.map_err(|source| Error::PluginStart { path: program.clone(), source })?;
        self.interpret(plugin, &output)
    }

    /// The same for a command that older plugins do not know: they have nothing to say.
    pub(super) async fn execute_if_known(
        &self,
        plugin: &str,
        configuration: &Value,
    ) -> Result<(), Error> {
        match self.execute(plugin, configuration).await {
            Err(Error::Plugin { code: UNKNOWN_COMMAND, .. }) => Ok(()),
            other => other.map(drop),
        }
    }

    fn find(&self, plugin: &str) -> Result<PathBuf, Error> {
        let paths = self.directories.iter().map(|directory| directory.join(plugin));
        paths.into_iter().find(|path| path.is_file()).ok_or_else(|| Error::PluginMissing {
            plugin: plugin.to_owned(),
            directories: join(self.directories, ", "),
        })
    }

    fn start(&self, program: &Path) -> Result<Child, Error> {
        let child = Command::new(program)
            .env("CNI_COMMAND", self.verb)
            .env("CNI_PATH", join(self.directories, ":"))
            .envs(self.environment.iter().map(|(key, value)| (*key, value.as_str())))
            .envs(self.mark.map(|mark| (orphans::VARIABLE, mark.text())))
            .current_dir("/")
            .process_group(0)
            .kill_on_drop(true)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|source| Error::PluginStart { path: program.to_owned(), source })?;
        descriptors::give_inherited(child.id());
        Ok(child)
    }

    fn interpret(&self, plugin: &str, output: &Output) -> Result<Option<Value>, Error> {
        let text = output.stdout.trim_ascii();
        if output.code == Some(0) {
            if text.is_empty() {
                return Ok(None);
            }
            return serde_json::from_slice(text).map(Some).map_err(|error| Error::PluginResult {
                plugin: plugin.to_owned(),
                verb: self.verb,
                reason: error.to_string(),
            });
        }
        // What one that was killed wrote may be its result, and no report.
        let report = match output.signal {
            None => serde_json::from_slice(text).ok(),
            Some(_) => None,
        };
        let report: Report = report.unwrap_or_else(|| Report {
            code: output.code.and_then(|code| u32::try_from(code).ok()).unwrap_or_default(),
            msg: [text, output.stderr.trim_ascii()]
                .map(|part| String::from_utf8_lossy(part).into_owned())
                .join(" ")
                .trim()
                .to_owned(),
            details: match output.signal {
                Some(signal) => format!("it was ended by signal {signal}"),
                None => String::new(),
            },
        });
        Err(Error::Plugin {
            plugin: plugin.to_owned(),
            verb: self.verb,
            code: report.code,
            message: if report.msg.is_empty() { "no reason given".to_owned() } else { report.msg },
            details: report.details,
        })
    }
}

/// A plugin's processes, for it may be a script: they end with it when it is given up.
struct Group(Option<u32>);

impl Drop for Group {
    fn drop(&mut self) {
        let leader = self.0.and_then(|id| i32::try_from(id).ok());
        if let Some(leader) = leader.and_then(Pid::from_raw) {
            // The leader is not reaped yet, so that nobody else can have its number.
            let _ = kill_process_group(leader, Signal::KILL);
        }
    }
}

/// What a plugin writes when it fails.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Report {
    code: u32,
    msg: String,
    details: String,
}

#[derive(Default)]
struct Output {
    code: Option<i32>,
    signal: Option<i32>,
    stdout: Vec<u8>,
    stderr: Vec<u8>,
}

async fn converse(child: &mut Child, input: &[u8]) -> std::io::Result<Output> {
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let write = async {
        let Some(mut stdin) = stdin else { return Ok(()) };
        match stdin.write_all(input).await {
            // A plugin need not read what it does not want to know.
            Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
            other => other,
        }
    };
    let mut output = Output::default();
    let (own, errors) = (&mut output.stdout, &mut output.stderr);
    let streams =
        async { tokio::try_join!(write, read(stdout, own), read(stderr, errors)).map(drop) };
    let status = {
        tokio::pin!(streams);
        tokio::select! {
            biased;
            read = &mut streams => {
                read?;
                child.wait().await?
            }
            status = child.wait() => {
                let status = status?;
                // What it wrote lies in the pipes. A process that it left behind may keep them
                // open, and does not count.
                if let Ok(read) = timeout(AFTER_THE_END, &mut streams).await {
                    read?;
                }
                status
            }
        }
    };
    output.code = status.code();
    output.signal = status.signal();
    Ok(output)
}

async fn read(stream: Option<impl AsyncRead + Unpin>, bytes: &mut Vec<u8>) -> std::io::Result<()> {
    if let Some(mut stream) = stream {
        (&mut stream).take(OUTPUT_LIMIT).read_to_end(bytes).await?;
        tokio::io::copy(&mut stream, &mut tokio::io::sink()).await?;
    }
    Ok(())
}

fn join(directories: &[PathBuf], separator: &str) -> String {
    let texts: Vec<_> = directories.iter().map(|path| path.to_string_lossy()).collect();
    texts.join(separator)
}
