//! From an agreement to what was asked for.

use std::{sync::Arc, time::Duration};

use super::{
    handshake::{Agreed, Remote},
    options::Options,
    port_forward,
    remote_command::{self, Client, Wanted, client},
    spdy,
    transport::{Life, Transport},
    urls::Request,
    websocket,
};
use crate::pod::{ExecRequest, Pods, Sandbox};

/// Streams of a command: five, and what a confused client opens besides.
const COMMAND_STREAMS: usize = 8;

/// Streams of a port-forwarding session, two for each connection.
const PORT_STREAMS: usize = 512;

/// How long a connection that is not read may hold up the others of its session.
const STALL: Duration = Duration::from_secs(30);

/// Serves one client to its end.
pub(super) async fn serve(
    pods: &Arc<Pods>,
    options: &Options,
    request: Request,
    agreed: Agreed,
    transport: Transport,
    life: Life,
) {
    match request {
        Request::Exec(container, request) => {
            let wanted = wanted(&request);
            if let Some(client) = meet(options, agreed, transport, life, wanted).await {
                remote_command::exec::serve(pods, &container, &request, client).await;
            }
        }
        Request::Attach(container, wanted) => {
            if let Some(client) = meet(options, agreed, transport, life, wanted).await {
                remote_command::attach::serve(pods, &container, wanted, client).await;
            }
        }
        Request::PortForward(sandbox, ports) => {
            forward_ports(pods, options, &sandbox, &ports, agreed, transport, life).await;
        }
    }
}

fn wanted(request: &ExecRequest) -> Wanted {
    Wanted {
        stdin: request.stdin,
        stdout: request.stdout,
        stderr: request.stderr,
        terminal: request.terminal,
    }
}

/// The client of a command with all its streams.
async fn meet(
    options: &Options,
    agreed: Agreed,
    transport: Transport,
    life: Life,
    wanted: Wanted,
) -> Option<Client> {
    match agreed {
        Agreed::Spdy(remote) => {
            let session = spdy::Session::serve(transport, limits(options, COMMAND_STREAMS), life);
            client::of_spdy(session, remote, wanted, options.creation_timeout).await
        }
        Agreed::Channels { codec, format, closes } => {
            let agreement = websocket::Agreement { codec, closes, idle: options.idle_timeout };
            let read = client::read_channels(wanted);
            let (session, incoming) =
                websocket::Session::serve(transport, agreement, life, &read).await;
            Some(client::of_websocket(session, incoming, format, wanted).await)
        }
        // Not among the protocols of a command.
        Agreed::Ports | Agreed::TunnelledPorts => None,
    }
}

async fn forward_ports(
    pods: &Arc<Pods>,
    options: &Options,
    sandbox: &Arc<Sandbox>,
    ports: &[u16],
    agreed: Agreed,
    transport: Transport,
    life: Life,
) {
    let transport = match agreed {
        Agreed::Channels { codec, closes, .. } => {
            let agreement = websocket::Agreement { codec, closes, idle: options.idle_timeout };
            let read = port_forward::websocket::read_channels(ports.len());
            let (session, incoming) =
                websocket::Session::serve(transport, agreement, life, &read).await;
            return port_forward::websocket::serve(pods, sandbox, ports, session, incoming).await;
        }
        Agreed::TunnelledPorts => {
            Transport::new(websocket::Tunnel::new(websocket::accept(transport).await))
        }
        Agreed::Ports | Agreed::Spdy(Remote { .. }) => transport,
    };
    let limits = spdy::Limits { stall: Some(STALL), ..limits(options, PORT_STREAMS) };
    let session = spdy::Session::serve(transport, limits, life);
    port_forward::spdy::serve(pods, sandbox, session, options.creation_timeout).await;
}

fn limits(options: &Options, streams: usize) -> spdy::Limits {
    spdy::Limits { streams, idle: options.idle_timeout, stall: None }
}
