//! Progress on standard error: all output of all steps, each line with its step.

use super::args::ProgressForm;
use orlop_build::{Event, Progress, StepId};
use std::collections::HashMap;
use std::io::Write;
use std::sync::{Mutex, PoisonError};

/// Prints events.
pub(crate) struct Printer {
    form: ProgressForm,
    /// Output of each step that has no newline yet.
    rest: Mutex<HashMap<StepId, Vec<u8>>>,
}

impl Printer {
    pub(crate) fn new(form: ProgressForm) -> Self {
        Self { form, rest: Mutex::default() }
    }

    fn line(text: &str) {
        // Nobody is left to tell when standard error is closed.
        let _ = writeln!(std::io::stderr().lock(), "{text}");
    }

    fn output(&self, id: StepId, data: &[u8], end: bool) {
        let mut rest = self.rest.lock().unwrap_or_else(PoisonError::into_inner);
        let held = rest.entry(id).or_default();
        held.extend_from_slice(data);
        while let Some(at) = held.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = held.drain(..=at).collect();
            Self::line(&format!("#{id} {}", String::from_utf8_lossy(&line[..at])));
        }
        if end && let Some(held) = rest.remove(&id).filter(|held| !held.is_empty()) {
            Self::line(&format!("#{id} {}", String::from_utf8_lossy(&held)));
        }
    }

    fn plain(&self, event: Event) {
        match event {
            Event::Started { id, name } => Self::line(&format!("#{id} {name}")),
            Event::Output { id, data } => self.output(id, &data, false),
            Event::Done { id, cached: true, .. } => Self::line(&format!("#{id} CACHED")),
            Event::Done { id, took, .. } => {
                self.output(id, &[], true);
                Self::line(&format!("#{id} DONE {:.1}s", took.as_secs_f64()));
            }
            Event::Missed { id, why } => Self::line(&format!("#{id} not reused: {why}")),
            Event::Failed { id, error } => {
                self.output(id, &[], true);
                Self::line(&format!("#{id} ERROR: {error}"));
            }
            Event::Warning { message } => Self::line(&format!("WARNING: {message}")),
        }
    }

    fn json(event: &Event) {
        let value = match event {
            Event::Started { id, name } => serde_json::json!({"step": id, "started": name}),
            Event::Output { id, data } => {
                serde_json::json!({"step": id, "output": String::from_utf8_lossy(data)})
            }
            Event::Done { id, cached, took } => {
                serde_json::json!({"step": id, "cached": cached, "seconds": took.as_secs_f64()})
            }
            Event::Missed { id, why } => serde_json::json!({"step": id, "missed": why}),
            Event::Failed { id, error } => serde_json::json!({"step": id, "error": error}),
            Event::Warning { message } => serde_json::json!({"warning": message}),
        };
        Self::line(&value.to_string());
    }
}

impl Progress for Printer {
    fn event(&self, event: Event) {
        match self.form {
            ProgressForm::Plain => self.plain(event),
            ProgressForm::Rawjson => Self::json(&event),
            ProgressForm::Quiet => {}
        }
    }
}
