//! Traces over OTLP: a span for each call, below the kubelet's where it sends one, and a span
//! for each stage below that.
//!
//! Nothing of it is there unless an endpoint is configured. A call waits for nothing: ended
//! spans go to a bounded queue, which a thread of the exporter empties; what finds it full, or
//! the collector gone, is dropped.

mod exporter;
mod headers;

use std::{
    borrow::Cow,
    future::Future,
    time::{Duration, SystemTime},
};

use futures_util::future::Either;
use http::HeaderMap;
use opentelemetry::{
    Context, KeyValue,
    propagation::TextMapPropagator,
    trace::{SpanKind, Status, TraceContextExt, Tracer, TracerProvider},
};
use opentelemetry_otlp::{ExporterBuildError, SpanExporter, WithExportConfig};
use opentelemetry_sdk::{
    Resource,
    propagation::TraceContextPropagator,
    trace::{BatchConfigBuilder, BatchSpanProcessor, Sampler, SdkTracer, SdkTracerProvider},
};
use tonic::Code;

use super::{Method, code};

/// How long the collector may take for one batch.
const EXPORT: Duration = Duration::from_secs(5);

/// How often spans are sent.
const INTERVAL: Duration = Duration::from_secs(1);

/// Spans that wait to be sent, at the most.
const QUEUE: usize = 4096;

/// How long the last spans may take at the end of the daemon.
const FLUSH: Duration = Duration::from_secs(2);

/// What an administrator decides about traces.
#[derive(Debug, Clone, PartialEq)]
pub struct Options {
    /// `http://HOST:PORT` of a collector that speaks OTLP over gRPC.
    pub endpoint: String,
    /// Of a million calls that come without a trace, how many begin one.
    pub sampling_rate_per_million: u32,
}

tokio::task_local! {
    static CALL: Call;
}

/// What makes spans, and sends them.
#[derive(Clone)]
pub struct Tracing {
    provider: SdkTracerProvider,
    tracer: SdkTracer,
}

/// The span of a call that is under way.
#[derive(Clone)]
pub(super) struct Call {
    method: Method,
    tracer: SdkTracer,
    context: Context,
}

impl Tracing {
    /// Gets ready to send spans; the collector need not be there. Within the async runtime.
    ///
    /// # Errors
    /// An endpoint that is no address.
    pub fn start(options: &Options) -> Result<Self, ExporterBuildError> {
        let exporter = SpanExporter::builder()
            .with_tonic()
            .with_endpoint(options.endpoint.clone())
            .with_timeout(EXPORT)
            .build()?;
        let exporter = exporter::Patient::new(exporter, options.endpoint.clone());
        let batches = BatchConfigBuilder::default()
            .with_max_queue_size(QUEUE)
            .with_scheduled_delay(INTERVAL)
            .build();
        let processor = BatchSpanProcessor::builder(exporter).with_batch_config(batches).build();
        let share = f64::from(options.sampling_rate_per_million) / 1e6;
        let sampler = Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(share)));
        let resource = Resource::builder()
            .with_service_name("criquet")
            .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
            .build();
        let provider = SdkTracerProvider::builder()
            .with_span_processor(processor)
            .with_sampler(sampler)
            .with_resource(resource)
            .build();
        let tracer = provider.tracer("criquet");
        Ok(Self { provider, tracer })
    }

    /// The span of a call, below that of its client; none where nobody wants one.
    pub(super) fn call(&self, method: Method, headers: &HeaderMap) -> Option<Call> {
        let parent = TraceContextPropagator::new().extract_with_context(
            // Whatever thread this is, it has no span of its own.
            &Context::new(),
            &headers::Headers(headers),
        );
        let span = self
            .tracer
            .span_builder(format!("{}/{}", method.service, method.name))
            .with_kind(SpanKind::Server)
            .with_attributes([
                KeyValue::new("rpc.system", "grpc"),
                KeyValue::new("rpc.service", method.service),
                KeyValue::new("rpc.method", method.name),
            ])
            .start_with_context(&self.tracer, &parent);
        let context = parent.with_span(span);
        let is_wanted = context.span().is_recording();
        is_wanted.then(|| Call { method, tracer: self.tracer.clone(), context })
    }

    /// Sends what is left, for a moment. Blocks.
    pub fn shut_down(&self) {
        if let Err(error) = self.provider.shutdown_with_timeout(FLUSH) {
            tracing::info!(%error, "the last spans are given up");
        }
    }
}

impl Call {
    /// Notes what the call is about, unless the operation is a part of its work.
    pub(super) fn is_about(&self, operation: &'static str, what: &'static str, id: &str) {
        if operation == self.method.name
            && let Some(attribute) = object(what, id)
        {
            self.context.span().set_attribute(attribute);
        }
    }

    /// A stage that has ended now.
    pub(super) fn stage(
        &self,
        operation: &'static str,
        (what, id): (&'static str, &str),
        stage: &'static str,
        began: SystemTime,
    ) {
        let name = KeyValue::new("criquet.operation", operation);
        let span = self
            .tracer
            .span_builder(Cow::Borrowed(stage))
            .with_start_time(began)
            .with_attributes([name].into_iter().chain(object(what, id)));
        drop(span.start_with_context(&self.tracer, &self.context));
    }

    pub(super) fn ends(&self, code: Code) {
        let span = self.context.span();
        let number = i64::from(i32::from(code));
        span.set_attribute(KeyValue::new("rpc.grpc.status_code", number));
        if code != Code::Ok {
            span.set_status(Status::error(code::name(code)));
        }
        span.end();
    }
}

/// What an operation is about, by the names that tools know.
fn object(what: &'static str, id: &str) -> Option<KeyValue> {
    let key = match what {
        "sandbox" => "sandbox.id",
        "container" => "container.id",
        "image" => "container.image.name",
        _ => return None,
    };
    Some(KeyValue::new(key, id.to_owned()))
}

/// The traced call that this task works for.
pub(super) fn current() -> Option<Call> {
    CALL.try_with(Call::clone).ok()
}

/// Work for a call.
pub(super) fn within<F: Future>(
    call: Option<Call>,
    work: F,
) -> impl Future<Output = F::Output> + use<F> {
    match call {
        Some(call) => Either::Left(CALL.scope(call, work)),
        None => Either::Right(work),
    }
}

/// Work for the call that this task works for, to be done by another task.
pub fn inherited<F: Future>(work: F) -> impl Future<Output = F::Output> + use<F> {
    within(current(), work)
}
