//! `criquet exec`: a command in a container, with our streams and our terminal.
//!
//! The CRI gives a URL; what is there speaks the channel protocol of Kubernetes over WebSocket:
//! the first byte of a message is the number of a stream.

use std::{
    io::{self, IsTerminal, Write},
    process::ExitCode,
};

use futures_util::{Sink, SinkExt, Stream, StreamExt};
use serde_json::{Value, json};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::mpsc,
};
use tokio_tungstenite::tungstenite::{Error as SocketError, Message};

use super::{
    args::{Exec, Pods},
    error::Error as NodeError,
    find, load, snapshot,
    stream::{self, Tls},
    terminal,
};
use crate::{
    cli::{Error, image::Client},
    cri::v1::ExecRequest,
};

/// The version that can close standard input.
const PROTOCOL: &str = "v5.channel.k8s.io";

const STDIN: u8 = 0;
const STDOUT: u8 = 1;
const STDERR: u8 = 2;
const STATUS: u8 = 3;
const RESIZE: u8 = 4;
const CLOSE: u8 = 255;

/// Runs a command; its exit code is ours.
pub(super) fn command(arguments: &Exec) -> Result<ExitCode, Error> {
    if arguments.terminal && !io::stdin().is_terminal() {
        return Err(NodeError::NoInputTerminal.into());
    }
    let config = load(&arguments.node)?;
    let client = Client::new(&config)?;
    let pods = client.wait(snapshot::take(&client.pods(), &Pods::default()))?;
    let (_, container) = find::container(&pods, &arguments.name)?;
    let request = ExecRequest {
        container_id: container.id.clone(),
        cmd: arguments.command.clone(),
        tty: arguments.terminal,
        stdin: arguments.stdin,
        stdout: true,
        // A terminal has one stream for both.
        stderr: !arguments.terminal,
    };
    let url = client.ask(client.pods().exec(request))?.url;
    let tls = Tls {
        server: config.streaming.tls_cert_file.as_deref(),
        asks_for_certificates: config.streaming.tls_client_ca_file.is_some(),
        client: arguments.client_cert.as_deref().zip(arguments.client_key.as_deref()),
    };
    let outcome = client.wait(async { Ok(session(&url, arguments, &tls).await) })?;
    Ok(ExitCode::from(outcome?))
}

async fn session(url: &str, arguments: &Exec, tls: &Tls<'_>) -> Result<u8, NodeError> {
    let socket = stream::connect(url, PROTOCOL, tls).await?;
    let raw = arguments.terminal.then(terminal::Raw::enter);
    let raw = raw.transpose().map_err(NodeError::Terminal)?;
    let input = arguments.stdin.then(terminal::input).transpose().map_err(NodeError::Terminal)?;
    let (sink, stream) = socket.split();
    // Both directions at once: a command that waits for us to read may be one that we wait for.
    let status = tokio::select! {
        status = receive(stream) => status,
        never = send(sink, input, arguments.terminal) => match never {},
    };
    drop(raw);
    let broken = || NodeError::Stream {
        url: url.to_owned(),
        reason: "it ended before the command did".to_owned(),
    };
    exit_code(&status.ok_or_else(broken)?)
}

/// Prints what the command says; returns what became of it, where that was told.
async fn receive(
    mut stream: impl Stream<Item = Result<Message, SocketError>> + Unpin,
) -> Option<String> {
    let mut status = String::new();
    while let Some(Ok(message)) = stream.next().await {
        let Message::Binary(bytes) = message else { continue };
        let Some((channel, bytes)) = bytes.split_first() else { continue };
        // Whoever read our output may have seen enough; the command goes on.
        let _ = match *channel {
            STDOUT => write(&mut io::stdout().lock(), bytes),
            STDERR => write(&mut io::stderr().lock(), bytes),
            STATUS => {
                status.push_str(&String::from_utf8_lossy(bytes));
                Ok(())
            }
            _ => Ok(()),
        };
    }
    (!status.is_empty()).then_some(status)
}

fn write(output: &mut impl Write, bytes: &[u8]) -> io::Result<()> {
    output.write_all(bytes)?;
    output.flush()
}

/// Nothing comes of sending: what became of the command is told in the other direction.
enum Never {}

/// Sends what is typed and the sizes of the terminal, for as long as somebody listens.
async fn send(
    mut sink: impl Sink<Message> + Unpin,
    mut input: Option<mpsc::Receiver<Vec<u8>>>,
    is_terminal: bool,
) -> Never {
    let mut changes = is_terminal.then(|| signal(SignalKind::window_change()).ok()).flatten();
    let mut is_open = !is_terminal || sink.send(size()).await.is_ok();
    while is_open {
        let message = tokio::select! {
            bytes = typed(&mut input) => match bytes {
                Some(bytes) => of_channel(STDIN, &bytes),
                None => {
                    input = None;
                    Message::binary(vec![CLOSE, STDIN])
                }
            },
            () = changed(&mut changes) => size(),
        };
        is_open = sink.send(message).await.is_ok();
    }
    std::future::pending().await
}

async fn typed(input: &mut Option<mpsc::Receiver<Vec<u8>>>) -> Option<Vec<u8>> {
    match input {
        Some(input) => input.recv().await,
        None => std::future::pending().await,
    }
}

async fn changed(changes: &mut Option<tokio::signal::unix::Signal>) {
    match changes {
        Some(changes) => drop(changes.recv().await),
        None => std::future::pending().await,
    }
}

fn size() -> Message {
    let (columns, rows) = terminal::size().unwrap_or((80, 24));
    of_channel(RESIZE, json!({ "Width": columns, "Height": rows }).to_string().as_bytes())
}

fn of_channel(channel: u8, bytes: &[u8]) -> Message {
    Message::binary([&[channel], bytes].concat())
}

/// What a `Status` of Kubernetes says of a command: its exit code, or why it did not run.
fn exit_code(status: &str) -> Result<u8, NodeError> {
    let status: Value = serde_json::from_str(status).unwrap_or_default();
    if status["status"] == "Success" {
        return Ok(0);
    }
    let causes = status["details"]["causes"].as_array().cloned().unwrap_or_default();
    let code = causes.iter().find(|cause| cause["reason"] == "ExitCode");
    let code = code.and_then(|cause| cause["message"].as_str()?.parse::<i32>().ok());
    match code {
        Some(code) => Ok(u8::try_from(code).unwrap_or(1)),
        None => {
            let words = status["message"].as_str().unwrap_or("nobody knows what became of it");
            Err(NodeError::Command(words.to_owned()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::exit_code;

    #[test]
    fn the_exit_code_is_that_of_the_command() {
        assert_eq!(exit_code(r#"{"status":"Success"}"#).unwrap(), 0);
        let failed = r#"{"status":"Failure","details":{"causes":[{"reason":"ExitCode",
            "message":"137"}]}}"#;
        assert_eq!(exit_code(failed).unwrap(), 137);
        let refused = r#"{"status":"Failure","message":"no such file"}"#;
        assert_eq!(exit_code(refused).unwrap_err().to_string(), "no such file");
    }
}
