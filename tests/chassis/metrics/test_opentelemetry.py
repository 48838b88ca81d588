"""OpenTelemetry gets the same numbers: by OTLP, or in the provider of a program that uses us."""

import json
import subprocess
import sys

from tests.doubles.otlp_receiver import OtlpReceiver

COUNTING = """
from antiphon.chassis.metrics import counter, gauge, histogram
cups = counter("test.cups", unit="{cup}", description="cups", labels={"size": ("small", "large")})
level = gauge("test.level", unit="By", description="level")
lit = gauge("test.lit", description="whether the fire burns")
out = gauge("test.out", description="whether it went out")
pouring = histogram("test.pouring", description="time", bounds=(0.1, 1), labels={"size": ("small",)})
def count():
    cups.add(2, "large")
    level.watch(lambda: 7)
    lit.watch(lambda: True)
    out.set(False)
    pouring.record(0.1, "small")
    pouring.record(0.5, "small")
    pouring.record(30, "vast")
"""
PUSH = f"""{COUNTING}
from antiphon.chassis import telemetry
from antiphon.chassis.settings import LogSettings
telemetry.configure("kitchen", LogSettings())
count()
telemetry.flush()
"""
LIBRARY = f"""{COUNTING}
import json
from opentelemetry import metrics
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from antiphon.chassis.metrics.opentelemetry import bridge
reader = InMemoryMetricReader()
bridge()
count()  # without a provider nobody asks
metrics.set_meter_provider(MeterProvider([reader]))
bridge()
count()
found = {{}}
for metric in reader.get_metrics_data().resource_metrics[0].scope_metrics[0].metrics:
    for point in metric.data.data_points:
        name = " ".join([metric.name, *map(str, point.attributes.values())])
        found[name] = getattr(point, "value", None) or list(getattr(point, "bucket_counts", ()))
print(json.dumps(found))
"""


def run(program: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", program],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_a_service_sends_its_metrics() -> None:
    with OtlpReceiver().running() as receiver:
        done = run(
            PUSH,
            OTEL_METRICS_EXPORTER="otlp",
            OTEL_TRACES_EXPORTER="none",
            OTEL_EXPORTER_OTLP_ENDPOINT=receiver.url,
        )
    assert done.returncode == 0, done.stderr
    assert receiver.metrics is not None
    [resource] = receiver.metrics.resource_metrics
    assert "kitchen" in [each.value.string_value for each in resource.resource.attributes]
    sent = {metric.name: metric for scope in resource.scope_metrics for metric in scope.metrics}
    cups = {
        point.attributes[0].value.string_value: point.as_int for point in sent["test.cups"].sum.data_points
    }
    assert cups == {"small": 0, "large": 2}
    assert sent["test.cups"].sum.is_monotonic
    assert [point.as_int for point in sent["test.level"].gauge.data_points] == [7]
    for name, value in (("test.lit", 1), ("test.out", 0)):  # a truth value made the whole batch fail
        assert [point.as_int for point in sent[name].gauge.data_points] == [value]
    small, other = sent["test.pouring"].histogram.data_points
    assert list(small.explicit_bounds) == [0.1, 1]
    assert (list(small.bucket_counts), small.count, small.sum) == ([1, 1, 0], 2, 0.6)
    assert (list(other.bucket_counts), other.attributes[0].value.string_value) == ([0, 0, 1], "_OTHER")
    assert sent["test.pouring"].unit == "s"


def test_a_wrong_exporter_is_refused() -> None:
    done = run(PUSH, OTEL_METRICS_EXPORTER="prometheus")

    assert done.returncode == 2
    assert done.stderr.startswith("OTEL_METRICS_EXPORTER is 'prometheus': allowed are otlp, none")


def test_without_an_exporter_the_sdk_of_metrics_is_not_imported() -> None:
    done = run(f"{PUSH}\nimport sys\nprint([name for name in sys.modules if 'sdk.metrics' in name])")

    assert (done.returncode, done.stdout) == (0, "[]\n"), done.stderr


def test_a_program_that_uses_us_has_them_in_its_own_provider() -> None:
    done = run(LIBRARY)

    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {
        "test.cups large": 4,
        "test.level": 14,
        "test.lit": 2,
        "test.out": [],
        "test.pouring small": [1, 1, 0],
        "test.pouring _OTHER": [0, 0, 1],
        "test.cups small": [],
    }
