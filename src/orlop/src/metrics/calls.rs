//! CRI calls: how many, how long, with what code, how many now.

use super::DURATIONS;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use std::time::Duration;
use tonic::Code;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Call {
    method: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Answer {
    method: &'static str,
    code: &'static str,
}

type Histograms = Family<Call, Histogram, fn() -> Histogram>;

/// The metrics of calls. Clones are the same.
#[derive(Clone)]
pub(crate) struct CallMetrics {
    answers: Family<Answer, Counter>,
    durations: Histograms,
    in_flight: Family<Call, Gauge>,
}

impl CallMetrics {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let calls = Self {
            answers: Family::default(),
            durations: Family::new_with_constructor(|| Histogram::new(DURATIONS)),
            in_flight: Family::default(),
        };
        registry.register(
            "cri_calls",
            "CRI calls answered, by method and gRPC code",
            calls.answers.clone(),
        );
        registry.register(
            "cri_call_duration_seconds",
            "Time from the head of a CRI call to the end of its answer; of streams, to their end",
            calls.durations.clone(),
        );
        registry.register(
            "cri_calls_in_flight",
            "CRI calls that are being answered",
            calls.in_flight.clone(),
        );
        calls
    }

    /// A call came in.
    pub(crate) fn began(&self, method: &'static str) {
        self.in_flight.get_or_create(&Call { method }).inc();
    }

    /// Its answer ended, or the client went away, which counts as Cancelled.
    pub(crate) fn ended(&self, method: &'static str, code: Code, took: Duration) {
        self.in_flight.get_or_create(&Call { method }).dec();
        self.durations.get_or_create(&Call { method }).observe(took.as_secs_f64());
        self.answers.get_or_create(&Answer { method, code: name(code) }).inc();
    }
}

/// gRPC's name of a code.
pub(crate) fn name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "Cancelled",
        Code::Unknown => "Unknown",
        Code::InvalidArgument => "InvalidArgument",
        Code::DeadlineExceeded => "DeadlineExceeded",
        Code::NotFound => "NotFound",
        Code::AlreadyExists => "AlreadyExists",
        Code::PermissionDenied => "PermissionDenied",
        Code::ResourceExhausted => "ResourceExhausted",
        Code::FailedPrecondition => "FailedPrecondition",
        Code::Aborted => "Aborted",
        Code::OutOfRange => "OutOfRange",
        Code::Unimplemented => "Unimplemented",
        Code::Internal => "Internal",
        Code::Unavailable => "Unavailable",
        Code::DataLoss => "DataLoss",
        Code::Unauthenticated => "Unauthenticated",
    }
}
