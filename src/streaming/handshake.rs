//! What a client asks to speak, and what it is answered.
//!
//! SPDY clients list versions in `X-Stream-Protocol-Version`, WebSocket clients in
//! `Sec-WebSocket-Protocol`; the first that this server knows is taken.

use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use super::{remote_command::status::Format, websocket::codec::Codec};

const VERSIONS: &str = "x-stream-protocol-version";
const ACCEPTED: &str = "x-accepted-stream-protocol-versions";
const SPDY: &str = "SPDY/3.1";

/// What a version of the remote command protocol can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Remote {
    /// How the outcome is told.
    pub format: Format,
    /// Whether a terminal can change its size.
    pub resizes: bool,
}

/// What a client and this server agree on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Agreed {
    /// Frames for a remote command.
    Spdy(Remote),
    /// Messages of channels, for a remote command or for ports.
    Channels {
        /// How messages are written.
        codec: Codec,
        /// How the outcome is told.
        format: Format,
        /// Whether the client can close a channel.
        closes: bool,
    },
    /// Frames for ports.
    Ports,
    /// The same in messages of a WebSocket.
    TunnelledPorts,
}

/// Which protocols a URL is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Exec and attach.
    Command,
    /// Port forwarding.
    Ports,
}

const fn remote(format: Format, resizes: bool) -> Agreed {
    Agreed::Spdy(Remote { format, resizes })
}

const fn channels(codec: Codec, format: Format, closes: bool) -> Agreed {
    Agreed::Channels { codec, format, closes }
}

type Names = &'static [(&'static str, Agreed)];

const SPDY_COMMAND: Names = &[
    ("v4.channel.k8s.io", remote(Format::Json, true)),
    ("v3.channel.k8s.io", remote(Format::Words, true)),
    ("v2.channel.k8s.io", remote(Format::Words, false)),
    ("channel.k8s.io", remote(Format::Words, false)),
];
const SPDY_PORTS: Names = &[("portforward.k8s.io", Agreed::Ports)];
const SOCKET_COMMAND: Names = &[
    ("v5.channel.k8s.io", channels(Codec::Binary, Format::Json, true)),
    ("v4.channel.k8s.io", channels(Codec::Binary, Format::Json, false)),
    ("v4.base64.channel.k8s.io", channels(Codec::Base64, Format::Json, false)),
    ("channel.k8s.io", channels(Codec::Binary, Format::Words, false)),
    ("base64.channel.k8s.io", channels(Codec::Base64, Format::Words, false)),
    ("", channels(Codec::Binary, Format::Words, false)),
];
const SOCKET_PORTS: Names = &[
    ("SPDY/3.1+portforward.k8s.io", Agreed::TunnelledPorts),
    ("v2.portforward.k8s.io", Agreed::TunnelledPorts),
    ("v4.channel.k8s.io", channels(Codec::Binary, Format::Words, false)),
    ("v4.base64.channel.k8s.io", channels(Codec::Base64, Format::Words, false)),
    ("", channels(Codec::Binary, Format::Words, false)),
];

/// The answer to a request that is not met.
pub type Refusal = Response<String>;

/// What is agreed on, and the answer that says so.
///
/// # Errors
/// The answer to a client that asks for nothing this server knows.
pub fn negotiate(
    purpose: Purpose,
    headers: &HeaderMap,
) -> Result<(Agreed, Response<String>), Box<Refusal>> {
    let upgrades = list(headers, header::CONNECTION);
    if !upgrades.iter().any(|token| token.eq_ignore_ascii_case("upgrade")) {
        return Err(refuse(StatusCode::BAD_REQUEST, "this URL needs an upgrade of the connection"));
    }
    match headers.get(header::UPGRADE).and_then(|value| value.to_str().ok()) {
        Some(name) if name.eq_ignore_ascii_case("websocket") => websocket(purpose, headers),
        Some(name) if name.eq_ignore_ascii_case(SPDY) => spdy(purpose, headers),
        _ => Err(refuse(StatusCode::BAD_REQUEST, "upgrade to SPDY/3.1 or websocket")),
    }
}

/// An answer with a reason.
pub fn refuse(status: StatusCode, reason: &str) -> Box<Refusal> {
    let mut response = Response::new(format!("{reason}\n"));
    *response.status_mut() = status;
    Box::new(response)
}

fn spdy(purpose: Purpose, headers: &HeaderMap) -> Result<(Agreed, Response<String>), Box<Refusal>> {
    let known = if purpose == Purpose::Command { SPDY_COMMAND } else { SPDY_PORTS };
    let asked = list(headers, VERSIONS);
    if asked.is_empty() {
        let reason = "the header X-Stream-Protocol-Version is missing";
        return Err(refuse(StatusCode::BAD_REQUEST, reason));
    }
    let Some((name, agreed)) = first_known(&asked, known) else {
        let mut refusal = refuse(StatusCode::FORBIDDEN, "no version of the protocol is known");
        for (name, _) in known {
            refusal.headers_mut().append(ACCEPTED, HeaderValue::from_static(name));
        }
        return Err(refusal);
    };
    let mut response = switch(SPDY);
    response.headers_mut().insert(VERSIONS, HeaderValue::from_static(name));
    Ok((agreed, response))
}

fn websocket(
    purpose: Purpose,
    headers: &HeaderMap,
) -> Result<(Agreed, Response<String>), Box<Refusal>> {
    let known = if purpose == Purpose::Command { SOCKET_COMMAND } else { SOCKET_PORTS };
    let bad = |reason| refuse(StatusCode::BAD_REQUEST, reason);
    let key = headers.get(header::SEC_WEBSOCKET_KEY).ok_or_else(|| bad("the key is missing"))?;
    if headers.get(header::SEC_WEBSOCKET_VERSION).is_none_or(|version| version != "13") {
        return Err(bad("the version of WebSocket must be 13"));
    }
    let asked = list(headers, header::SEC_WEBSOCKET_PROTOCOL);
    let asked = if asked.is_empty() { vec![""] } else { asked };
    let (name, agreed) = first_known(&asked, known)
        .ok_or_else(|| refuse(StatusCode::FORBIDDEN, "no subprotocol is known"))?;
    let mut response = switch("websocket");
    let accept = HeaderValue::try_from(derive_accept_key(key.as_bytes()));
    let accept = accept.map_err(|_| bad("the key is malformed"))?;
    response.headers_mut().insert(header::SEC_WEBSOCKET_ACCEPT, accept);
    if !name.is_empty() {
        let name = HeaderValue::from_static(name);
        response.headers_mut().insert(header::SEC_WEBSOCKET_PROTOCOL, name);
    }
    Ok((agreed, response))
}

fn first_known(asked: &[&str], known: Names) -> Option<(&'static str, Agreed)> {
    let find = |asked: &&str| known.iter().find(|(name, _)| name == asked);
    asked.iter().find_map(find).copied()
}

fn switch(protocol: &'static str) -> Response<String> {
    let mut response = Response::new(String::new());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static(protocol));
    response
}

/// The items of a header that is a list, in one line or several.
fn list(headers: &HeaderMap, name: impl header::AsHeaderName) -> Vec<&str> {
    let lines = headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok());
    lines.flat_map(|line| line.split(',')).map(str::trim).filter(|item| !item.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

    use super::{ACCEPTED, Agreed, Purpose, Remote, negotiate};
    use crate::streaming::{remote_command::status::Format, websocket::codec::Codec};

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let pair = |(name, value): &(&'static str, &'static str)| {
            (HeaderName::from_static(name), HeaderValue::from_static(value))
        };
        pairs.iter().map(pair).collect()
    }

    #[test]
    fn the_first_known_version_is_taken() {
        let spdy = [
            ("connection", "keep-alive, Upgrade"),
            ("upgrade", "SPDY/3.1"),
            ("x-stream-protocol-version", "v9.channel.k8s.io, v3.channel.k8s.io"),
            ("x-stream-protocol-version", "v4.channel.k8s.io"),
        ];
        let (agreed, response) = negotiate(Purpose::Command, &headers(&spdy)).unwrap();
        let remote = Remote { format: Format::Words, resizes: true };
        assert_eq!(agreed, Agreed::Spdy(remote));
        assert_eq!(response.headers()["x-stream-protocol-version"], "v3.channel.k8s.io");
        let refusal = negotiate(Purpose::Ports, &headers(&spdy)).unwrap_err();
        assert_eq!(refusal.status(), StatusCode::FORBIDDEN);
        assert_eq!(refusal.headers()[ACCEPTED], "portforward.k8s.io");
    }

    #[test]
    fn websockets_need_no_subprotocol() {
        let socket = [
            ("connection", "Upgrade"),
            ("upgrade", "websocket"),
            ("sec-websocket-version", "13"),
            ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ];
        let (agreed, response) = negotiate(Purpose::Command, &headers(&socket)).unwrap();
        let (codec, format) = (Codec::Binary, Format::Words);
        assert_eq!(agreed, Agreed::Channels { codec, format, closes: false });
        // The example of RFC 6455, section 1.3.
        assert_eq!(response.headers()["sec-websocket-accept"], "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        assert!(!response.headers().contains_key("sec-websocket-protocol"));
    }

    #[test]
    fn what_is_no_upgrade_is_refused() {
        for pairs in [
            &[][..],
            &[("connection", "upgrade")],
            &[("connection", "upgrade"), ("upgrade", "h2c")],
            &[("connection", "upgrade"), ("upgrade", "websocket")],
            &[("connection", "close"), ("upgrade", "SPDY/3.1")],
            &[("connection", "upgrade"), ("upgrade", "SPDY/3.1")],
        ] {
            let refusal = negotiate(Purpose::Command, &headers(pairs)).unwrap_err();
            assert_eq!(refusal.status(), StatusCode::BAD_REQUEST, "{pairs:?}");
        }
    }
}
