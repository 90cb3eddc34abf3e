"""Logs, traces and the words that tie them together.

Every log line carries the service, and inside a handler the correlation id of the loop that it belongs to. Traces
are OpenTelemetry; their context travels in the events (`traceparent`), so that one trace shows a dataset's whole way
to production. Export is off until a collector is configured; the ids are there all the same.
"""

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import structlog
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

if TYPE_CHECKING:
    from shared.settings import ServiceSettings

_PROPAGATOR = TraceContextTextMapPropagator()
_NOISY = ("botocore", "boto3", "urllib3", "kafka", "alembic", "httpx", "httpcore", "uvicorn.access")


def configure(settings: "ServiceSettings") -> None:
    """Set up logs and traces for this process. Call once, first."""
    processors: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _add_trace_ids,
    ]
    renderer: Any = (
        structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
        if settings.log_format == "console"
        else structlog.processors.JSONRenderer()
    )
    structlog.configure(
        processors=[*processors, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=processors,
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            structlog.processors.format_exc_info,
            renderer,
        ],
    ))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(settings.log_level.upper())
    for name in _NOISY:
        logging.getLogger(name).setLevel(logging.WARNING)
    structlog.contextvars.bind_contextvars(service=settings.service)
    _configure_traces(settings)


def _configure_traces(settings: "ServiceSettings") -> None:
    provider = TracerProvider(resource=Resource.create({"service.name": f"tuneloop-{settings.service}"}))
    if settings.otlp_endpoint:
        exporter = OTLPSpanExporter(endpoint=f"{settings.otlp_endpoint.rstrip('/')}/v1/traces")
        provider.add_span_processor(BatchSpanProcessor(exporter))
    trace.set_tracer_provider(provider)


def _add_trace_ids(_: Any, __: str, event: Any) -> Any:
    context = trace.get_current_span().get_span_context()
    if context.is_valid:
        event["trace_id"] = f"{context.trace_id:032x}"
    return event


def get_logger(name: str) -> structlog.stdlib.BoundLogger:
    """The logger of a module; give facts as keywords: ``log.info("run started", run=run_id)``."""
    return structlog.stdlib.get_logger(name)


def current_traceparent() -> str | None:
    """W3C trace context of the running span, for an event that leaves now."""
    carrier: dict[str, str] = {}
    _PROPAGATOR.inject(carrier)
    return carrier.get("traceparent")


def begin_span(name: str, traceparent: str | None = None, **attributes: str | int | float | bool) -> trace.Span:
    """A span for work that is not one block of code; its owner calls `end`. Continues `traceparent` where given."""
    context = _PROPAGATOR.extract({"traceparent": traceparent}) if traceparent else None
    return trace.get_tracer("tuneloop").start_span(name, context=context, attributes=attributes)


def traceparent_of(span: trace.Span) -> str:
    """W3C trace context of a span, for whoever works for it."""
    carrier: dict[str, str] = {}
    _PROPAGATOR.inject(carrier, trace.set_span_in_context(span))
    return carrier.get("traceparent", "")


@contextmanager
def span(name: str, traceparent: str | None = None, **attributes: str | int | float | bool) -> Iterator[trace.Span]:
    """Run a block as a span, continuing the trace in `traceparent` where given."""
    context = _PROPAGATOR.extract({"traceparent": traceparent}) if traceparent else None
    tracer = trace.get_tracer("tuneloop")
    with tracer.start_as_current_span(name, context=context, attributes=attributes) as current:
        try:
            yield current
        except Exception as error:
            current.set_status(StatusCode.ERROR, str(error))
            raise
