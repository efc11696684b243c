//! Requests for streams.

use super::super::v1;
use crate::{
    pod::ExecRequest,
    spec::Error,
    streaming::{MAX_PORTS, remote_command::Wanted},
};

pub(in crate::cri) fn exec_request(request: v1::ExecRequest) -> Result<ExecRequest, Error> {
    let v1::ExecRequest { cmd, tty, stdin, stdout, stderr, .. } = request;
    check(Wanted { stdin, stdout, stderr, terminal: tty })?;
    Ok(ExecRequest { command: cmd, terminal: tty, stdin, stdout, stderr })
}

pub(in crate::cri) fn attach_request(request: &v1::AttachRequest) -> Result<Wanted, Error> {
    let v1::AttachRequest { tty, stdin, stdout, stderr, .. } = *request;
    check(Wanted { stdin, stdout, stderr, terminal: tty })
}

fn check(wanted: Wanted) -> Result<Wanted, Error> {
    if wanted.terminal && wanted.stderr {
        let reason = "cannot be had with tty: a terminal has one output";
        return Err(Error::invalid("stderr", reason));
    }
    if !wanted.stdin && !wanted.stdout && !wanted.stderr {
        return Err(Error::invalid("stdout", "ask for at least one of stdin, stdout and stderr"));
    }
    Ok(wanted)
}

pub(in crate::cri) fn ports(ports: &[i32]) -> Result<Vec<u16>, Error> {
    if ports.len() > MAX_PORTS {
        return Err(Error::invalid("port", format!("has more than {MAX_PORTS} ports")));
    }
    let port = |&port: &i32| u16::try_from(port).ok().filter(|&port| port > 0);
    let ports: Option<Vec<u16>> = ports.iter().map(port).collect();
    ports.ok_or_else(|| Error::invalid("port", "must be 1 to 65535"))
}

#[cfg(test)]
mod tests {
    use super::{attach_request, ports};
    use crate::cri::v1::AttachRequest;

    #[test]
    fn a_terminal_has_one_output() {
        let tty = AttachRequest { tty: true, stdout: true, ..Default::default() };
        attach_request(&tty).unwrap();
        attach_request(&AttachRequest { stderr: true, ..tty }).unwrap_err();
        attach_request(&AttachRequest::default()).unwrap_err();
    }

    #[test]
    fn ports_have_sixteen_bits() {
        assert_eq!(ports(&[80, 65535]).unwrap(), [80, 65535]);
        for wrong in [vec![0], vec![-1], vec![65536], vec![1; 200]] {
            ports(&wrong).unwrap_err();
        }
    }
}
