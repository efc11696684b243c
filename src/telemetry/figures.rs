//! Figures that grow with what the daemon does. What there is at one moment is looked at when
//! somebody asks; that is not here.
//!
//! It is `prometheus-client`: the crate of the Prometheus project itself, maintained, with typed
//! labels and without statics. Every label's values come from a fixed set.

use std::time::Duration;

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::Registry,
};
use tonic::Code;

use super::{code, methods::Method};
use crate::kind::Kind;

/// Bounds of calls and commands, in seconds: a status takes less than the first, a pull or a
/// grace period longer than most.
const CALLS: [f64; 15] =
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 120.0];

/// Bounds of stages.
const STAGES: [f64; 13] =
    [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 60.0];

type Histograms<L> = Family<L, Histogram, fn() -> Histogram>;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct MethodLabels {
    service: &'static str,
    method: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CallLabels {
    service: &'static str,
    method: &'static str,
    code: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StageLabels {
    operation: &'static str,
    stage: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ErrorLabels {
    operation: &'static str,
    kind: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ExecLabels {
    result: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct SystemCallLabels {
    call: &'static str,
}

/// How a command of ExecSync ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExecResult {
    /// With exit code 0.
    Success,
    /// With another one.
    Failure,
    /// Its time was over.
    Timeout,
    /// It could not be executed.
    Error,
}

impl ExecResult {
    const ALL: [Self; 4] = [Self::Success, Self::Failure, Self::Timeout, Self::Error];

    fn name(self) -> &'static str {
        match self {
            ExecResult::Success => "success",
            ExecResult::Failure => "failure",
            ExecResult::Timeout => "timeout",
            ExecResult::Error => "error",
        }
    }
}

/// What the daemon has done since its start.
pub struct Figures {
    requests: Family<CallLabels, Counter>,
    request_seconds: Histograms<CallLabels>,
    in_flight: Family<MethodLabels, Gauge>,
    stage_seconds: Histograms<StageLabels>,
    errors: Family<ErrorLabels, Counter>,
    exec_seconds: Histograms<ExecLabels>,
    refused_calls: Family<SystemCallLabels, Counter>,
}

impl Default for Figures {
    fn default() -> Self {
        let figures = Self {
            requests: Family::default(),
            request_seconds: Family::new_with_constructor(|| Histogram::new(CALLS)),
            in_flight: Family::default(),
            stage_seconds: Family::new_with_constructor(|| Histogram::new(STAGES)),
            errors: Family::default(),
            exec_seconds: Family::new_with_constructor(|| Histogram::new(CALLS)),
            refused_calls: Family::default(),
        };
        // What has not happened yet is zero, and not unknown.
        for result in ExecResult::ALL {
            let result = result.name();
            drop(figures.exec_seconds.get_or_create(&ExecLabels { result }));
        }
        drop(figures.refused_calls.get_or_create(&SystemCallLabels { call: "unknown" }));
        figures
    }
}

impl Figures {
    /// Shows them in a registry, under their names.
    pub fn register(&self, registry: &mut Registry) {
        registry.register(
            "criquet_grpc_requests",
            "Calls that have ended, by gRPC code",
            self.requests.clone(),
        );
        registry.register(
            "criquet_grpc_request_duration_seconds",
            "How long calls took, but for those that last as long as their client likes",
            self.request_seconds.clone(),
        );
        registry.register(
            "criquet_grpc_requests_in_flight",
            "Calls that are not answered yet",
            self.in_flight.clone(),
        );
        registry.register(
            "criquet_operation_stage_duration_seconds",
            "How long the stages of operations took",
            self.stage_seconds.clone(),
        );
        registry.register(
            "criquet_operation_errors",
            "Operations that have failed, by kind of failure",
            self.errors.clone(),
        );
        registry.register(
            "criquet_exec_sync_duration_seconds",
            "How long commands of ExecSync took, by how they ended",
            self.exec_seconds.clone(),
        );
        registry.register(
            "criquet_refused_system_calls",
            "System calls that seccomp profiles have refused in containers whose pods want to know",
            self.refused_calls.clone(),
        );
    }

    /// Containers were refused a system call so many times.
    pub fn calls_refused(&self, call: &'static str, times: u64) {
        self.refused_calls.get_or_create(&SystemCallLabels { call }).inc_by(times);
    }

    pub(super) fn call_begins(&self, method: Method) {
        self.in_flight.get_or_create(&method.into()).inc();
    }

    pub(super) fn call_ends(&self, method: Method, code: Code, age: Duration) {
        self.in_flight.get_or_create(&method.into()).dec();
        let Method { service, name: method_name } = method;
        let labels = CallLabels { service, method: method_name, code: code::name(code) };
        self.requests.get_or_create(&labels).inc();
        if !method.is_open_ended() {
            self.request_seconds.get_or_create(&labels).observe(age.as_secs_f64());
        }
    }

    pub(super) fn stage(&self, operation: &'static str, stage: &'static str, age: Duration) {
        let labels = StageLabels { operation, stage };
        self.stage_seconds.get_or_create(&labels).observe(age.as_secs_f64());
    }

    pub(super) fn failed(&self, operation: &'static str, kind: Kind) {
        self.errors.get_or_create(&ErrorLabels { operation, kind: kind.name() }).inc();
    }

    /// A command of ExecSync has ended.
    pub fn executed(&self, result: ExecResult, age: Duration) {
        let result = result.name();
        self.exec_seconds.get_or_create(&ExecLabels { result }).observe(age.as_secs_f64());
    }
}

impl From<Method> for MethodLabels {
    fn from(Method { service, name: method }: Method) -> Self {
        Self { service, method }
    }
}
