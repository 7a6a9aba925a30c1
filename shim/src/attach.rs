//! Attaching to the container's own process.

use crate::container::state::State;
use crate::error::Refusal;
use crate::rpc::ReplyTo;
use crate::service::Answer;
use crate::shim::Shim;
use orlop_task::protocol::shim::{AttachRequest, AttachResponse};

impl Shim {
    /// Answers when the attachment is over.
    pub(crate) fn attach(&mut self, to: ReplyTo, request: &AttachRequest) -> Answer {
        let key = self.key();
        self.container(&request.id)?;
        let Self { poller, container: Some(container), .. } = self else {
            return Err(Refusal::internal("the container has gone"));
        };
        let init = &mut container.init;
        if !matches!(init.state, State::Created | State::Running | State::Paused) {
            return Err(Refusal::precondition(format!("{} is not running", init.name)));
        }
        let io = init.io.as_mut().ok_or_else(|| Refusal::internal("no I/O"))?;
        io.attach(poller, (key, to), [&request.stdout, &request.stderr], request.patient)?;
        self.answer_attachments();
        Ok(None)
    }

    /// The reader of an attachment has gone.
    pub(crate) fn detach(&mut self, key: u32) {
        let Self { poller, container, buffer, .. } = self;
        let container = container.as_mut();
        if let Some(io) = container.and_then(|container| container.init.io.as_mut()) {
            io.drop_reader(poller, key, buffer);
        }
        self.answer_attachments();
    }

    /// Tells those whose attachment is over.
    pub(crate) fn answer_attachments(&mut self) {
        let container = self.container.as_mut();
        let Some(io) = container.and_then(|container| container.init.io.as_mut()) else { return };
        for (to, fell_behind) in io.attachments_over() {
            self.answer(to, &AttachResponse { fell_behind });
        }
    }
}
