//! A registry on a loopback port, which can be told to misbehave.

use std::{
    collections::HashMap,
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Mutex},
    thread,
};

use flate2::{Compression, write::GzEncoder};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use serde_json::{Value, json};

use crate::image::Digest;

#[derive(Debug, Clone)]
pub(super) struct Request {
    pub(super) method: String,
    /// With its query.
    pub(super) path: String,
    /// Names in lower case.
    pub(super) headers: HashMap<String, String>,
    pub(super) body: String,
}

impl Request {
    pub(super) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }
}

#[derive(Default, Clone)]
pub(super) struct Reply {
    pub(super) status: u16,
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: Vec<u8>,
    /// Send only so many bytes of the body, and then break off.
    pub(super) cut: Option<usize>,
    /// Where it breaks off, keep the connection open and send nothing.
    pub(super) stall: bool,
    /// Send a byte now and then.
    pub(super) drip: bool,
}

impl Reply {
    pub(super) fn status(status: u16) -> Self {
        Self { status, ..Self::default() }
    }

    pub(super) fn with(mut self, name: &str, value: impl ToString) -> Self {
        self.headers.push((name.to_owned(), value.to_string()));
        self
    }
}

/// Looks at a request first; the number counts earlier requests of the same path.
type Hook = Box<dyn Fn(&Request, usize) -> Option<Reply> + Send>;

#[derive(Default)]
struct State {
    documents: HashMap<String, (String, Vec<u8>)>,
    log: Vec<Request>,
    hook: Option<Hook>,
}

pub(super) struct Registry {
    pub(super) address: SocketAddr,
    state: Arc<Mutex<State>>,
}

/// A layer as it is pushed: its archive and its compressed form.
pub(in crate::image) struct Pushed {
    pub(in crate::image) plain: Vec<u8>,
    pub(in crate::image) stored: Vec<u8>,
}

pub(in crate::image) fn gzip(plain: Vec<u8>) -> Pushed {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(&plain).unwrap();
    Pushed { stored: encoder.finish().unwrap(), plain }
}

/// Bytes that no compression makes fewer.
pub(in crate::image) fn noise_bytes(length: usize) -> Vec<u8> {
    let mut word = 0x9e37_79b9_7f4a_7c15u64;
    let bytes = std::iter::repeat_with(|| {
        word ^= word << 13;
        word ^= word >> 7;
        word ^= word << 17;
        word as u8
    });
    bytes.take(length).collect()
}

impl Registry {
    pub(super) fn start() -> Self {
        Self::start_with(|stream, state| {
            serve(stream, state);
        })
    }

    pub(super) fn start_tls(config: Arc<ServerConfig>) -> Self {
        Self::start_with(move |stream, state| {
            let connection = ServerConnection::new(config.clone()).unwrap();
            serve(StreamOwned::new(connection, stream), state);
        })
    }

    fn start_with(serve: impl Fn(TcpStream, &Mutex<State>) + Send + Sync + 'static) -> Self {
        let serve = Arc::new(serve);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(Mutex::new(State::default()));
        let shared = state.clone();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (state, serve) = (shared.clone(), serve.clone());
                thread::spawn(move || serve(stream, &state));
            }
        });
        Self { address, state }
    }

    pub(super) fn reference(&self, name: &str) -> String {
        format!("{}/{name}", self.address)
    }

    pub(super) fn on_request(
        &self,
        hook: impl Fn(&Request, usize) -> Option<Reply> + Send + 'static,
    ) {
        self.state.lock().unwrap().hook = Some(Box::new(hook));
    }

    pub(super) fn log(&self) -> Vec<Request> {
        self.state.lock().unwrap().log.clone()
    }

    pub(super) fn count(&self, part: &str) -> usize {
        self.log().iter().filter(|request| request.path.contains(part)).count()
    }

    /// Serves the bytes at the end of a path, as they are.
    pub(super) fn store(&self, path: &str, bytes: &[u8]) {
        let content = ("application/octet-stream".to_owned(), bytes.to_vec());
        self.state.lock().unwrap().documents.insert(path.to_owned(), content);
    }

    /// What is stored under a name.
    pub(super) fn content(&self, name: &str) -> Vec<u8> {
        self.state.lock().unwrap().documents[name].1.clone()
    }

    pub(super) fn blob(&self, bytes: &[u8]) -> Value {
        let digest = Digest::of(bytes).to_string();
        self.store(&format!("blobs/{digest}"), bytes);
        json!({ "mediaType": "application/octet-stream", "digest": digest, "size": bytes.len() })
    }

    fn layer(&self, stored: &[u8]) -> Value {
        self.typed(
            stored,
            match stored {
                [0x1f, 0x8b, ..] => "layer.v1.tar+gzip",
                [0x28, 0xb5, ..] => "layer.v1.tar+zstd",
                _ => "layer.v1.tar",
            },
        )
    }

    fn typed(&self, bytes: &[u8], kind: &str) -> Value {
        let mut descriptor = self.blob(bytes);
        descriptor["mediaType"] = json!(format!("application/vnd.oci.image.{kind}"));
        descriptor
    }

    pub(super) fn manifest(&self, tag: &str, media_type: &str, document: &Value) -> Digest {
        let bytes = document.to_string().into_bytes();
        let digest = Digest::of(&bytes);
        let documents = &mut self.state.lock().unwrap().documents;
        for version in [tag.to_owned(), digest.to_string()] {
            documents
                .insert(format!("manifests/{version}"), (media_type.to_owned(), bytes.clone()));
        }
        digest
    }

    /// Pushes an image for this machine, and gives its manifest.
    pub(super) fn push(&self, tag: &str, layers: &[Pushed]) -> Value {
        let diff_ids: Vec<Digest> = layers.iter().map(|layer| Digest::of(&layer.plain)).collect();
        let config = json!({
            "os": "linux", "architecture": crate::image::platform::Platform::here().architecture,
            "config": { "User": "app", "Cmd": ["sh"], "Labels": { "tag": tag } },
            "rootfs": { "type": "layers", "diff_ids": diff_ids },
        });
        let media_type = "application/vnd.oci.image.manifest.v1+json";
        let manifest = json!({
            "schemaVersion": 2, "mediaType": media_type,
            "config": self.typed(config.to_string().as_bytes(), "config.v1+json"),
            "layers": layers.iter().map(|layer| self.layer(&layer.stored)).collect::<Vec<_>>(),
        });
        self.manifest(tag, media_type, &manifest);
        manifest
    }
}

fn serve(mut stream: impl Read + Write, state: &Mutex<State>) -> Option<()> {
    let request = receive(&mut stream)?;
    let reply = {
        let mut state = state.lock().unwrap();
        let earlier = state.log.iter().filter(|r| r.path == request.path).count();
        state.log.push(request.clone());
        let hooked = state.hook.as_ref().and_then(|hook| hook(&request, earlier));
        hooked.map_or_else(|| content(&state, &request), |reply| complete(&state, &request, reply))
    };
    send(stream, &reply)
}

fn receive(stream: &mut impl Read) -> Option<Request> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let mut words = line.split(' ');
    let (method, path) = (words.next()?.to_owned(), words.next()?.to_owned());
    let mut headers = HashMap::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim().split_once(':') else { break };
        headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
    }
    let length = headers.get("content-length").and_then(|l| l.parse().ok()).unwrap_or(0);
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some(Request { method, path, headers, body: String::from_utf8(body).ok()? })
}

/// What is stored under the request's path, in the range that it asks for.
fn content(state: &State, request: &Request) -> Reply {
    let path = request.path.split('?').next().unwrap_or_default();
    let found = state.documents.iter().find(|(name, _)| path.ends_with(name.as_str()));
    let Some((_, (media_type, body))) = found else { return Reply::status(404) };
    let range = request.header("range").strip_prefix("bytes=").and_then(|r| r.split_once('-'));
    let (start, end) = range.unwrap_or_default();
    let start = start.parse().unwrap_or(0).min(body.len());
    let end = end.parse().map_or(body.len(), |last: usize| (last + 1).min(body.len()));
    let reply = Reply { body: body[start..end].to_vec(), ..Reply::status(200) };
    let reply = reply.with("Content-Type", media_type);
    if range.is_none() {
        return reply;
    }
    Reply { status: 206, ..reply }
        .with("Content-Range", format!("bytes {start}-{}/{}", end - 1, body.len()))
}

/// A hook's reply of status 0 is the stored content, cut, stalled or slowed as the hook says.
fn complete(state: &State, request: &Request, reply: Reply) -> Reply {
    if reply.status != 0 {
        return reply;
    }
    Reply { cut: reply.cut, stall: reply.stall, drip: reply.drip, ..content(state, request) }
}

fn send(mut stream: impl Write, reply: &Reply) -> Option<()> {
    let mut head = format!(
        "HTTP/1.1 {} X\r\nConnection: close\r\nContent-Length: {}\r\n",
        reply.status,
        reply.body.len()
    );
    for (name, value) in &reply.headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    stream.write_all(format!("{head}\r\n").as_bytes()).ok()?;
    let length = reply.cut.unwrap_or(reply.body.len()).min(reply.body.len());
    let step = if reply.drip { 1 } else { length.max(1) };
    for part in reply.body[..length].chunks(step) {
        stream.write_all(part).and_then(|()| stream.flush()).ok()?;
        if reply.drip {
            thread::sleep(std::time::Duration::from_millis(50));
        }
    }
    if reply.stall {
        thread::sleep(std::time::Duration::from_secs(20));
    }
    Some(())
}
