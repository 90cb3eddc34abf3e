"""Model servers behind TLS, and traces that go on from the client through the gateway to the model server."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import trustme
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from tests.support.gateway_process import running_gateway, running_model_server, server_log, write_table
from tests.support.routes import loaded, ready, route, target

pytestmark = pytest.mark.integration

TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = "b7ad6b7169203331"


def test_a_model_server_behind_tls_is_asked_where_its_certificate_is_trusted_and_not_otherwise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority = trustme.CA()
    certificate = tmp_path / "server.pem"
    authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(str(certificate))
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    with running_model_server("r@1", certificate=certificate) as url:
        write_table(tmp_path, route("r", target("r@1", "stable", 10_000)), ready("one", url), loaded("one", url, "r@1"))
        with running_gateway(tmp_path) as gateway:
            answer = gateway.chat("r", "say a")
            assert (answer.status_code, answer.json()["error"]["code"]) == (503, "upstream_unreachable")
            assert "certificate verify failed" in answer.json()["error"]["message"]
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
        with running_gateway(tmp_path) as gateway:
            answer = gateway.chat("r", "say a")
            assert (answer.status_code, answer.json()["choices"][0]["message"]["content"]) == (200, "a")
            with gateway.client.stream("POST", "/v1/completions", json={
                "model": "r", "prompt": "say a b", "stream": True
            }) as stream:
                assert stream.read().endswith(b"data: [DONE]\n\n")


def test_a_clients_trace_goes_on_through_the_gateway_to_the_model_server(tmp_path: Path) -> None:
    with collector() as (endpoint, spans), running_model_server("r@1") as url:
        write_table(tmp_path, route("r", target("r@1", "stable", 10_000)), ready("one", url), loaded("one", url, "r@1"))
        with running_gateway(tmp_path, OTLP_ENDPOINT=endpoint) as gateway:
            gateway.chat("r", "say a", headers={"traceparent": f"00-{TRACE}-{PARENT}-01", "tracestate": "team=x"})
            gateway.chat("r", "say b")
        given = [request["headers"] for request in server_log(url)["requests"]]
    # The gateway has ended, and what it still had to tell it has told by then.
    continued, own = spans
    assert (continued.name, continued.trace_id.hex(), continued.parent_span_id.hex()) == ("inference", TRACE, PARENT)
    assert {(item.key, item.value.string_value) for item in continued.attributes} >= {("route", "r"), ("model", "r@1")}
    assert (own.parent_span_id, own.trace_id.hex() != TRACE) == (b"", True)
    assert [head["traceparent"].split("-")[1:3] for head in given] == [
        [span.trace_id.hex(), span.span_id.hex()] for span in (continued, own)
    ]
    assert given[0]["tracestate"] == "team=x"


@contextmanager
def collector() -> Iterator[tuple[str, list[Span]]]:
    """An OTLP collector: its address, and the spans that it got."""
    spans: list[Span] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            export = ExportTraceServiceRequest.FromString(body)
            spans.extend(span for resource in export.resource_spans for scope in resource.scope_spans
                         for span in scope.spans)
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", spans
    finally:
        server.shutdown()
        thread.join(10)
        server.server_close()
