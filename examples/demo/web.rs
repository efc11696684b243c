//! A web client of a few lines, and the CRI's log format.

use std::{fs, net::SocketAddr, path::Path, time::Duration};

use anyhow::{Context, bail};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// The page at an address; tried for three seconds, since a server needs a moment to listen.
pub async fn get(address: SocketAddr) -> anyhow::Result<String> {
    let mut last = None;
    for _ in 0..150 {
        match get_once(address).await {
            Ok(page) => return Ok(page),
            Err(error) => last = Some(error),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Err(last.context("not tried")?).with_context(|| format!("getting http://{address}/"))
}

async fn get_once(address: SocketAddr) -> anyhow::Result<String> {
    let limit = Duration::from_secs(1);
    let mut stream = tokio::time::timeout(limit, TcpStream::connect(address)).await??;
    stream.write_all(b"GET /index.html HTTP/1.0\r\n\r\n").await?;
    let mut answer = String::new();
    tokio::time::timeout(limit, stream.read_to_string(&mut answer)).await??;
    let (head, body) = answer.split_once("\r\n\r\n").context("the answer has no body")?;
    match head.starts_with("HTTP/1.0 200") || head.starts_with("HTTP/1.1 200") {
        true => Ok(body.trim().to_owned()),
        false => bail!("the answer is {head:?}"),
    }
}

/// The numbers that the talking container has written so far.
///
/// A line of the log is `TIME STREAM TAG TEXT`; the text is `line NUMBER`.
pub fn numbers(log: &Path) -> anyhow::Result<Vec<u64>> {
    let text = fs::read_to_string(log).with_context(|| format!("reading {}", log.display()))?;
    // What follows the last line feed is being written now.
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    whole
        .lines()
        .map(|line| {
            let number = line.splitn(4, ' ').nth(3).and_then(|text| text.strip_prefix("line "));
            number.and_then(|number| number.parse().ok()).with_context(|| format!("{line:?}"))
        })
        .collect()
}

/// Fails where a number is missing or twice.
pub fn check_gapless(numbers: &[u64]) -> anyhow::Result<()> {
    match numbers.iter().enumerate().find(|(index, number)| *index as u64 != **number) {
        Some((index, number)) => bail!("line {index} of the log is number {number}"),
        None => Ok(()),
    }
}

/// Waits until the log has more lines than `count`.
pub async fn wait_for_more(log: &Path, count: usize) -> anyhow::Result<Vec<u64>> {
    for _ in 0..250 {
        let numbers = numbers(log).unwrap_or_default();
        if numbers.len() > count {
            return Ok(numbers);
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    bail!("the log does not grow beyond {count} lines")
}
