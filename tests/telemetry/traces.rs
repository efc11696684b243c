//! Traces, as a collector gets them.

use std::sync::{Arc, Mutex};

use criquet::cri::v1;
use opentelemetry_proto::tonic::{
    collector::trace::v1::{
        ExportTraceServiceRequest, ExportTraceServiceResponse,
        trace_service_server::{TraceService, TraceServiceServer},
    },
    common::v1::any_value::Value,
    trace::v1::Span,
};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status, metadata::MetadataValue, transport::Server};

use crate::common::{Node, answered, eventually, requests, streams::ports};

const PORT: u16 = 4317;
const CONFIG: &str = "warm_monitors = 0\n[tracing]\nendpoint = \"http://127.0.0.1:4317\"\n";
const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const PARENT: &str = "b7ad6b7169203331";

/// What a collector was sent.
#[derive(Clone, Default)]
struct Collector(Arc<Mutex<Vec<Span>>>);

impl Collector {
    /// Listens in the node's network namespace.
    fn start(node: &Node) -> Self {
        let collector = Self::default();
        let listener = ports::listen(node.namespace(), ([127, 0, 0, 1], PORT).into());
        let server = Server::builder().add_service(TraceServiceServer::new(collector.clone()));
        tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
        collector
    }

    fn spans(&self) -> Vec<Span> {
        self.0.lock().unwrap().clone()
    }

    fn named(&self, name: &str) -> Option<Span> {
        self.spans().into_iter().find(|span| span.name.ends_with(name))
    }
}

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let resources = request.into_inner().resource_spans;
        let scopes = resources.into_iter().flat_map(|resource| resource.scope_spans);
        self.0.lock().unwrap().extend(scopes.flat_map(|scope| scope.spans));
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

fn attribute(span: &Span, key: &str) -> Option<Value> {
    let found = span.attributes.iter().find(|attribute| attribute.key == key)?;
    found.value.clone()?.value
}

fn traced<T>(message: T, flags: &str) -> Request<T> {
    let mut request = Request::new(message);
    let context = format!("00-{TRACE}-{PARENT}-{flags}");
    let context: MetadataValue<_> = context.parse().unwrap();
    request.metadata_mut().insert("traceparent", context);
    request
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn terminate(node: &Node) {
    let pid = rustix::process::Pid::from_raw(node.daemon_pid().cast_signed()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
}

#[tokio::test]
async fn a_call_of_a_traced_client_is_a_span_with_its_stages_below() {
    requires_root!();
    let mut node = Node::start_with(CONFIG).await;
    let collector = Collector::start(&node);
    let request = v1::RunPodSandboxRequest {
        config: Some(requests::sandbox(&node, "pod")),
        runtime_handler: String::new(),
    };
    let answer = node.runtime.run_pod_sandbox(traced(request, "01")).await.unwrap();
    let pod = answer.into_inner().pod_sandbox_id;
    // One that its client does not sample, and one without a trace.
    let unsampled = traced(v1::ListContainersRequest::default(), "00");
    node.runtime.list_containers(unsampled).await.unwrap();
    node.runtime.version(v1::VersionRequest::default()).await.unwrap();
    let missing = v1::StartContainerRequest { container_id: "none".to_owned() };
    node.runtime.start_container(traced(missing, "01")).await.unwrap_err();

    eventually("the spans are sent", async || collector.named("/StartContainer").is_some()).await;
    let call = collector.named("/RunPodSandbox").unwrap();
    assert_eq!(call.name, "runtime.v1.RuntimeService/RunPodSandbox");
    assert_eq!((hex(&call.trace_id).as_str(), hex(&call.parent_span_id).as_str()), (TRACE, PARENT));
    let text = |text: &str| Some(Value::StringValue(text.to_owned()));
    assert_eq!(attribute(&call, "rpc.system"), text("grpc"));
    assert_eq!(attribute(&call, "rpc.method"), text("RunPodSandbox"));
    assert_eq!(attribute(&call, "sandbox.id"), text(&pod));
    assert_eq!(attribute(&call, "rpc.grpc.status_code"), Some(Value::IntValue(0)));
    let spans = collector.spans();
    let stages: Vec<_> = spans.iter().filter(|span| span.parent_span_id == call.span_id).collect();
    for name in ["starting the monitor", "setting up the network", "storing that it is ready"] {
        let stage = stages.iter().find(|span| span.name == name);
        let stage = stage.unwrap_or_else(|| panic!("{name} in {stages:#?}"));
        assert_eq!(stage.trace_id, call.trace_id);
        assert!(stage.start_time_unix_nano >= call.start_time_unix_nano, "{stage:?}");
        assert!(stage.end_time_unix_nano >= stage.start_time_unix_nano, "{stage:?}");
    }
    let failed = collector.named("/StartContainer").unwrap();
    assert_eq!(attribute(&failed, "rpc.grpc.status_code"), Some(Value::IntValue(5)));
    for name in ["/ListContainers", "/Version"] {
        assert!(collector.named(name).is_none(), "{name} is not traced");
    }
    // A pod's end has that of its containers among its stages, and is about the pod alone.
    node.launch(&pod, requests::script("c", "sleep 1000")).await;
    let stop = v1::StopPodSandboxRequest { pod_sandbox_id: pod.clone() };
    node.runtime.stop_pod_sandbox(traced(stop, "01")).await.unwrap();
    eventually("the stop is sent", async || collector.named("/StopPodSandbox").is_some()).await;
    let call = collector.named("/StopPodSandbox").unwrap();
    assert_eq!(attribute(&call, "sandbox.id"), text(&pod));
    assert_eq!(attribute(&call, "container.id"), None);
    let end = collector.named("waiting for its end").unwrap();
    assert_eq!(end.parent_span_id, call.span_id);
    assert!(attribute(&end, "container.id").is_some(), "{end:?}");
    // What is not sent yet is sent at the end.
    let listing = traced(v1::ListPodSandboxRequest::default(), "01");
    node.runtime.list_pod_sandbox(listing).await.unwrap();
    terminate(&node);
    eventually("the daemon ends", async || node.has_ended()).await;
    assert!(collector.named("/ListPodSandbox").is_some());
    node.start_daemon().await;
    node.remove_pod(&pod).await.unwrap();
}

#[tokio::test]
async fn a_collector_that_is_not_there_is_told_once_and_holds_up_nobody() {
    requires_root!();
    let mut node = Node::start_with(CONFIG).await;
    for _ in 0..3 {
        let version = traced(v1::VersionRequest::default(), "01");
        answered("Version", node.runtime.version(version)).await.unwrap();
        eventually("it is told", async || node.log().contains("takes no spans")).await;
    }
    assert_eq!(node.log().matches("takes no spans").count(), 1, "{}", node.log());
    let collector = Collector::start(&node);
    eventually("it is asked again", async || {
        let version = traced(v1::VersionRequest::default(), "01");
        node.runtime.version(version).await.unwrap();
        collector.named("/Version").is_some()
    })
    .await;
    terminate(&node);
    eventually("the daemon ends", async || node.has_ended()).await;
}

#[tokio::test]
async fn without_an_endpoint_there_is_no_thread_for_spans() {
    requires_root!();
    let threads = |node: &Node| -> Vec<String> {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", node.daemon_pid())).unwrap();
        let names = tasks.flatten().map(|task| std::fs::read_to_string(task.path().join("comm")));
        names.flatten().filter(|name| name.contains("OpenTelemetry")).collect()
    };
    let node = Node::start().await;
    assert_eq!(threads(&node), [""; 0]);
    let node = Node::start_with(CONFIG).await;
    // A thread has its name a moment after it was started.
    eventually("there is one", async || threads(&node).len() == 1).await;
}
