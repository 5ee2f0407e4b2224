"""A run's events as OpenTelemetry traces and metrics, where the standard environment variables ask for them.

It is a listener of :class:`~mealkit_runtime.events.Reporter`: what it sends was redacted there. One span is the run's,
with a child for each stage; a recipe's own spans become children of the run's. Nothing that a collector does, or fails
to do, fails a run or delays its end by more than :data:`PATIENCE` seconds.
"""

from __future__ import annotations

import contextlib
import logging
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from mealkit.redact import HIDDEN, says_secret

from .events import Event, Reporter

if TYPE_CHECKING:
    from .result import RunResult

PATIENCE = 1.5
"""Seconds that a run waits at its end for what is not sent yet."""

_HURRIED = 0.3
"""The same for a run that was asked to stop."""

_ENDPOINTS = (
    "OTEL_EXPORTER_OTLP_ENDPOINT",
    "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
    "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT",
)
_EXTRA = "add opentelemetry-sdk and opentelemetry-exporter-otlp-proto-http to the recipe's dependencies"


def open_telemetry(reporter: Reporter, environment: Mapping[str, str]) -> Telemetry | None:
    """Begin the run's span and listen to the reporter; None where it is not asked for or not possible.

    What is asked for and cannot be done is a warning.

    Args:
        reporter: Its ``head`` tells the run.
        environment: The process environment: OpenTelemetry's own parts read that of the process.
    """
    chosen = {kind: _exporters(kind, environment) for kind in ("traces", "metrics")}
    if environment.get("OTEL_SDK_DISABLED", "").strip().lower() == "true" or not any(chosen.values()):
        return None
    for kind, names in chosen.items():
        for name in names - {"otlp", "console"}:
            reporter.warning(
                f"OTEL_{kind.upper()}_EXPORTER names {name!r}, which is not known here", "use otlp or none"
            )
    protocol = environment.get("OTEL_EXPORTER_OTLP_PROTOCOL") or "http/protobuf"
    if protocol != "http/protobuf":
        reporter.warning(f"telemetry is not sent by {protocol!r}", "set OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf")
        return None
    try:
        return Telemetry(reporter, environment, chosen["traces"], chosen["metrics"])
    except ModuleNotFoundError as error:
        reporter.warning(f"telemetry is asked for, but there is no {error.name}", _EXTRA)
    except Exception as error:  # a variable that OpenTelemetry cannot read
        reporter.warning(f"telemetry cannot begin: {type(error).__name__}: {error}", "mend the OTEL_* variables")
    return None


def _exporters(kind: str, environment: Mapping[str, str]) -> set[str]:
    """The exporters of traces or metrics; unlike OpenTelemetry's own default, none if nothing names a collector."""
    named = environment.get(f"OTEL_{kind.upper()}_EXPORTER")
    if named:
        return {name.strip() for name in named.split(",")} - {"none", ""}
    asked = ("OTEL_EXPORTER_OTLP_ENDPOINT", f"OTEL_EXPORTER_OTLP_{kind.upper()}_ENDPOINT")
    return {"otlp"} if any(environment.get(name) for name in asked) else set()


class Telemetry:
    """Turns events into spans and metrics until :meth:`close`.

    Raises:
        ModuleNotFoundError: OpenTelemetry's packages are missing.
    """

    def __init__(self, reporter: Reporter, environment: Mapping[str, str], traces: set[str], metrics: set[str]) -> None:
        from opentelemetry import context, trace
        from opentelemetry.sdk.metrics import MeterProvider
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        self._change: Callable[[str], str] = reporter.redact
        self._problem = _Problem()
        self._ended = False
        self._rows = 0
        resource = self._resource(reporter.head)
        self._tracers = TracerProvider(resource=resource, shutdown_on_exit=False)
        for processor in _processors(traces):
            self._tracers.add_span_processor(processor)
        self._meters = MeterProvider(_readers(metrics), resource=resource, shutdown_on_exit=False)
        if type(trace.get_tracer_provider()).__name__ == "ProxyTracerProvider":
            trace.set_tracer_provider(self._tracers)  # the recipe's own spans go the same way
        self._tracer = self._tracers.get_tracer("mealkit")
        carrier = {
            name: environment[name.upper()] for name in ("traceparent", "tracestate") if name.upper() in environment
        }
        mode = str(reporter.head["mode"])
        self._mode = {"mealkit.mode": mode}
        self._run = self._tracer.start_span(
            f"mealkit {mode}",
            context=TraceContextTextMapPropagator().extract(carrier),
            attributes={**self._mode, "mealkit.run.id": str(reporter.head["run_id"])},
        )
        self._inside = trace.set_span_in_context(self._run)
        self._token: Any = context.attach(self._inside)
        self._stages: dict[str, Any] = {}
        meter = self._meters.get_meter("mealkit")
        self._read = meter.create_counter("mealkit.rows.read", "{row}", "Rows of the main dataset that were read")
        self._counts = {
            "rows_scored": meter.create_counter("mealkit.rows.scored", "{row}", "Rows that the batch got"),
            "rows_skipped": meter.create_counter("mealkit.rows.skipped", "{row}", "Bad rows that were left out"),
            "rows_quarantined": meter.create_counter(
                "mealkit.rows.quarantined", "{row}", "Bad rows that were set aside"
            ),
        }
        self._rate = meter.create_gauge("mealkit.rows.rate", "{row}/s", "Rows a second, of the whole run")
        self._stage_seconds = meter.create_gauge("mealkit.stage.duration", "s", "How long a stage took")
        self._run_seconds = meter.create_gauge("mealkit.run.duration", "s", "How long the run took")
        self._logged = meter.create_gauge("mealkit.recipe.metric", "1", "What the recipe logs while it trains")
        self._judged = meter.create_gauge("mealkit.evaluation.metric", "1", "What an evaluator found")
        reporter.listeners.append(self)

    def __call__(self, event: Event) -> None:
        """Take note of an event; nothing that goes wrong here is the run's."""
        with contextlib.suppress(Exception):
            self._note(event)

    def close(self, result: RunResult, *, hurried: bool = False) -> str | None:
        """End the run's span and send what is left; what went wrong in sending, in a sentence.

        Args:
            result: The run's.
            hurried: The run was asked to stop.
        """
        if self._ended:
            return None
        self._ended = True
        with contextlib.suppress(Exception):
            self._end(result)
        works = [threading.Thread(target=provider.shutdown, daemon=True) for provider in (self._tracers, self._meters)]
        until = time.monotonic() + (_HURRIED if hurried else PATIENCE)
        for work in works:
            work.start()
        for work in works:
            work.join(max(0.0, until - time.monotonic()))
        if not any(work.is_alive() for work in works):
            self._problem.close()  # else what still complains shall not be heard either
        if self._problem.first is not None:
            return f"telemetry could not be sent: {self._problem.first}"
        if any(work.is_alive() for work in works):
            return "telemetry could not be sent: the collector does not answer"
        return None

    def _note(self, event: Event) -> None:
        from opentelemetry.trace import StatusCode

        kind = event["event"]
        if kind == "stage" and event["status"] == "started":
            span = self._tracer.start_span(event["stage"], context=self._inside)
            self._stages[event["stage"]] = span
        elif kind == "stage" and (span := self._stages.pop(event["stage"], None)) is not None:
            known = {"event", "time", "stage", "status", "seconds"}
            facts = {name: value for name, value in event.items() if name not in known and value is not None}
            span.set_attributes({f"mealkit.{name}": value for name, value in facts.items()})
            span.end()
        elif kind == "progress" and event["unit"] == "row":
            self._read.add(max(0, event["done"] - self._rows), self._mode)
            self._rows = max(self._rows, event["done"])
        elif kind == "metric" and event["value"] is not None:
            attributes = {"mealkit.metric.name": event["name"]}
            self._logged.set(event["value"], attributes)
            step = {} if event["step"] is None else {"mealkit.metric.step": event["step"]}
            self._run.add_event("metric", {**attributes, **step, "mealkit.metric.value": event["value"]})
        elif kind == "warning":
            self._run.add_event("warning", {"message": event["message"]})
        elif kind == "error":
            code, message = event["code"], event["message"]
            for span in (*self._stages.values(), self._run):
                span.set_attribute("error.type", code)
                span.set_status(StatusCode.ERROR, message)
            self._run.add_event("exception", {"exception.type": code, "exception.message": message})

    def _end(self, result: RunResult) -> None:
        from opentelemetry import context

        for span in self._stages.values():
            span.end()
        mode = self._mode
        self._read.add(max(0, (result.rows_read or 0) - self._rows), mode)
        for name, counter in self._counts.items():
            if (count := getattr(result, name, None)) is not None:
                counter.add(count, mode)
        for name, seconds in result.seconds.items():
            if name != "total":
                self._stage_seconds.set(seconds, {**mode, "mealkit.stage": name})
        total = result.seconds["total"]
        self._run_seconds.set(total, {**mode, "mealkit.status": result.status})
        if result.rows_read is not None and total > 0:
            self._rate.set(result.rows_read / total, mode)
        for metric in (result.metrics or {}).get("metrics", ()):
            if metric["value"] is not None:
                facts = {"mealkit.metric.name": self._change(metric["name"])}
                if metric.get("direction"):
                    facts["mealkit.metric.direction"] = metric["direction"]
                self._judged.set(metric["value"], facts)
        for name in ("rows_read", "rows_scored"):
            if (count := getattr(result, name)) is not None:
                self._run.set_attribute(f"mealkit.{name}", count)
        self._run.set_attribute("mealkit.status", result.status)
        self._run.set_attribute("process.exit.code", result.exit_code)
        self._run.end()
        with contextlib.suppress(ValueError):
            context.detach(self._token)

    def _resource(self, head: Mapping[str, Any]) -> Any:
        """What runs: OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES go before what the recipe says."""
        import os

        from opentelemetry.sdk.resources import OTELResourceDetector, Resource

        recipe = head["recipe"]
        ours: dict[str, Any] = {
            "service.name": recipe["name"],
            "service.version": recipe["version"],
            "service.instance.id": head["run_id"],
            "mealkit.recipe.spec_digest": recipe["spec_digest"],
            "process.pid": os.getpid(),
            "process.runtime.name": sys.implementation.name,
            "process.runtime.version": sys.version.split()[0],
        }
        image = head["image"]
        if image:
            name, _, digest = image.partition("@")
            ours["container.image.name"] = name
            if digest:
                ours["oci.manifest.digest"] = digest
        merged = {**Resource.create().attributes, **ours, **OTELResourceDetector().detect().attributes}
        return Resource({name: self._shown(name, value) for name, value in merged.items()})

    def _shown(self, name: str, value: Any) -> Any:
        if says_secret(name):
            return HIDDEN
        return self._change(value) if isinstance(value, str) else value


def _processors(names: set[str]) -> Sequence[Any]:
    from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter

    found = []
    if "otlp" in names:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

        found.append(BatchSpanProcessor(OTLPSpanExporter()))
    if "console" in names:
        found.append(BatchSpanProcessor(ConsoleSpanExporter(out=sys.stderr)))
    return found


def _readers(names: set[str]) -> Sequence[Any]:
    from opentelemetry.sdk.metrics.export import ConsoleMetricExporter, PeriodicExportingMetricReader

    found = []
    if "otlp" in names:
        from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter

        found.append(PeriodicExportingMetricReader(OTLPMetricExporter()))
    if "console" in names:
        found.append(PeriodicExportingMetricReader(ConsoleMetricExporter(out=sys.stderr)))
    return found


class _Problem(logging.Handler):
    """Keeps the first complaint of OpenTelemetry's own loggers, which else would fill the run's log."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.first: str | None = None
        self._logger = logging.getLogger("opentelemetry")
        self._propagates = self._logger.propagate
        self._logger.propagate = False
        self._logger.addHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        """Keep the first."""
        if self.first is None:
            self.first = record.getMessage()

    def close(self) -> None:
        """Listen no longer."""
        self._logger.removeHandler(self)
        self._logger.propagate = self._propagates
        super().close()
