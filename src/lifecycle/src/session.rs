//! The part of the door that streams pass through.

use crate::runtime::Runtime;
use crate::{Flows, Result, Session, container, sandbox};
use oci_spec::runtime::Process;
use orlop_model::{ContainerId, SandboxId, Signal};
use tokio::net::TcpStream;

impl Runtime {
    /// The whole id of a container that runs and takes commands.
    pub fn running_container(&self, id: &str) -> Result<ContainerId> {
        let found = self.existing(id)?;
        container::check_running(&found)?;
        Ok(found.id.clone())
    }

    /// The whole id of a sandbox that is ready.
    pub fn ready_sandbox(&self, id: &str) -> Result<SandboxId> {
        let found = self.existing_sandbox(id)?;
        found.check_ready(self.context())?;
        Ok(found.id.clone())
    }

    /// Freezes a running container.
    pub async fn pause_container(&self, id: &str) -> Result<()> {
        container::pause(&*self.existing(id)?).await
    }

    /// Undoes [`Self::pause_container`].
    pub async fn resume_container(&self, id: &str) -> Result<()> {
        container::resume(&*self.existing(id)?).await
    }

    /// Sends a signal to process 1 of a running container.
    pub async fn signal_container(&self, id: &str, signal: Signal) -> Result<()> {
        container::signal(&*self.existing(id)?, signal).await
    }

    /// CRI Exec: a command that somebody talks to. Dropping the session ends it.
    pub async fn exec(&self, id: &str, command: Vec<String>, flows: Flows) -> Result<Session> {
        container::exec_session(self.existing(id)?, command, flows).await
    }

    /// CRI Attach. Dropping the session ends the attachment, never the container.
    pub async fn attach(&self, id: &str, flows: Flows) -> Result<Session> {
        container::attach_session(self.existing(id)?, flows).await
    }

    /// The process that a command in a running container would be, for whoever talks to the shim
    /// himself.
    pub async fn exec_process(
        &self,
        id: &str,
        command: &[String],
        terminal: bool,
    ) -> Result<Process> {
        container::exec_process(&*self.existing(id)?, command, terminal).await
    }

    /// A connection to a port on the localhost of a sandbox.
    pub async fn dial(&self, id: &str, port: u16) -> Result<TcpStream> {
        let found = self.existing_sandbox(id)?;
        found.check_ready(self.context())?;
        sandbox::dial(found, port).await
    }
}
