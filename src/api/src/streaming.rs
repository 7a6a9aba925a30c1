//! Exec, Attach and PortForward: the calls hand out URLs, [`Streams`] does the work when a client
//! comes to one.

use crate::Api;
use crate::containers::required_id;
use crate::error::ApiError;
use crate::exec::check_command;
use crate::v1;
use crate::validate::Invalid;
use futures::FutureExt;
use futures::future::BoxFuture;
use orlop_lifecycle::{Flows, Session, SessionEnd};
use orlop_streaming::{Backend, Outcome, Process, Request, Size};
use tokio::net::TcpStream;
use tokio::sync::watch;

/// Two channels of one byte's number for each.
const MAX_PORTS: usize = 128;

pub(crate) async fn exec(
    api: &Api,
    request: v1::ExecRequest,
) -> Result<v1::ExecResponse, ApiError> {
    let id = required_id("container_id", &request.container_id)?;
    check_command(&request.cmd)?;
    let streams = streams(request.stdin, request.stdout, request.stderr, request.tty)?;
    let container = api.engine()?.runtime.running_container(id)?.to_string();
    let request = Request::Exec { container, command: request.cmd, streams };
    Ok(v1::ExecResponse { url: api.streaming()?.url(request)? })
}

pub(crate) async fn attach(
    api: &Api,
    request: v1::AttachRequest,
) -> Result<v1::AttachResponse, ApiError> {
    let id = required_id("container_id", &request.container_id)?;
    let streams = streams(request.stdin, request.stdout, request.stderr, request.tty)?;
    let container = api.engine()?.runtime.running_container(id)?.to_string();
    Ok(v1::AttachResponse { url: api.streaming()?.url(Request::Attach { container, streams })? })
}

pub(crate) async fn port_forward(
    api: &Api,
    request: v1::PortForwardRequest,
) -> Result<v1::PortForwardResponse, ApiError> {
    let id = required_id("pod_sandbox_id", &request.pod_sandbox_id)?;
    let ports = ports(&request.port)?;
    let sandbox = api.engine()?.runtime.ready_sandbox(id)?.to_string();
    let url = api.streaming()?.url(Request::PortForward { sandbox, ports })?;
    Ok(v1::PortForwardResponse { url })
}

fn streams(
    stdin: bool,
    stdout: bool,
    stderr: bool,
    tty: bool,
) -> Result<orlop_streaming::Streams, Invalid> {
    if tty && stderr {
        return Err(Invalid::Value {
            field: "stderr".to_owned(),
            value: "true".to_owned(),
            remedy: "a terminal has one output: leave stderr out where tty is set".to_owned(),
        });
    }
    if !(stdin || stdout || stderr) {
        return Err(Invalid::Missing {
            field: "stdin, stdout and stderr".to_owned(),
            remedy: "ask for at least one of them".to_owned(),
        });
    }
    Ok(orlop_streaming::Streams { stdin, stdout, stderr, tty })
}

fn ports(asked: &[i32]) -> Result<Vec<u16>, Invalid> {
    let refuse =
        |value: String, remedy: String| Invalid::Value { field: "port".to_owned(), value, remedy };
    if asked.len() > MAX_PORTS {
        let remedy = format!("ask for at most {MAX_PORTS} ports");
        return Err(refuse(format!("{} ports", asked.len()), remedy));
    }
    asked
        .iter()
        .map(|port| match u16::try_from(*port) {
            Ok(port) if port > 0 => Ok(port),
            _ => Err(refuse(port.to_string(), "use a number from 1 to 65535".to_owned())),
        })
        .collect()
}

/// What is streamed, for the streaming server.
#[derive(Clone)]
pub struct Streams(Api);

impl Streams {
    /// For an API whose engine may still be on its way.
    pub fn new(api: Api) -> Self {
        Self(api)
    }
}

impl Backend for Streams {
    fn exec<'a>(
        &'a self,
        container: &'a str,
        command: Vec<String>,
        streams: orlop_streaming::Streams,
    ) -> BoxFuture<'a, Result<Process, String>> {
        async move {
            let runtime = &self.0.engine().map_err(words)?.runtime;
            let session = runtime.exec(container, command, flows(streams)).await;
            session.map(|session| process(session, false)).map_err(words)
        }
        .boxed()
    }

    fn attach<'a>(
        &'a self,
        container: &'a str,
        streams: orlop_streaming::Streams,
    ) -> BoxFuture<'a, Result<Process, String>> {
        async move {
            let runtime = &self.0.engine().map_err(words)?.runtime;
            let session = runtime.attach(container, flows(streams)).await;
            session.map(|session| process(session, true)).map_err(words)
        }
        .boxed()
    }

    fn dial<'a>(&'a self, sandbox: &'a str, port: u16) -> BoxFuture<'a, Result<TcpStream, String>> {
        async move {
            let runtime = &self.0.engine().map_err(words)?.runtime;
            runtime.dial(sandbox, port).await.map_err(words)
        }
        .boxed()
    }
}

/// An error in words for a client that has no gRPC any more.
fn words(error: impl Into<ApiError>) -> String {
    error.into().to_string()
}

fn flows(streams: orlop_streaming::Streams) -> Flows {
    let orlop_streaming::Streams { stdin, stdout, stderr, tty } = streams;
    Flows { stdin, stdout, stderr, terminal: tty, patient: false }
}

fn process(session: Session, attached: bool) -> Process {
    let Session { stdin, stdout, stderr, size, end, scope } = session;
    let (sizes, mut asked) = watch::channel(Size::default());
    let end = async move {
        let sizes = async {
            while asked.changed().await.is_ok() {
                let Size { width, height } = *asked.borrow_and_update();
                size.send_replace((width, height));
            }
            std::future::pending::<()>().await;
        };
        let end = tokio::select! {
            end = end => end,
            () = sizes => std::future::pending().await,
        };
        match end {
            Ok(SessionEnd::Exited(_)) if attached => Outcome::Ended,
            Ok(SessionEnd::Exited(exit)) => Outcome::Exited(exit.code),
            Ok(SessionEnd::FellBehind) => Outcome::Failed(
                "the attached client fell behind the container's output by more than 1 MiB and was cut off: attach again, or read the log".to_owned(),
            ),
            Err(error) => Outcome::Failed(error.to_string()),
        }
    };
    Process {
        stdin: stdin.map(|pipe| Box::new(pipe) as _),
        stdout: stdout.map(|pipe| Box::new(pipe) as _),
        stderr: stderr.map(|pipe| Box::new(pipe) as _),
        size: Some(sizes),
        end: end.boxed(),
        scope: Box::new(scope),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flows_that_make_sense() {
        streams(true, true, false, true).unwrap();
        streams(false, false, true, false).unwrap();
        assert!(streams(true, true, true, true).is_err());
        assert!(streams(false, false, false, true).is_err());
    }

    #[test]
    fn ports_that_exist() {
        assert_eq!(ports(&[80, 65535]).unwrap(), [80, 65535]);
        assert_eq!(ports(&[]).unwrap(), [0_u16; 0]);
        for wrong in [0, -1, 65_536] {
            assert!(ports(&[80, wrong]).is_err(), "{wrong}");
        }
        assert!(ports(&[80; 129]).is_err());
    }
}
