"""The measures as Prometheus text. Imports the library, which only the extra `metrics` brings."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from .measures import MEASURES, Seen

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
"""The format that every scraper reads; with names as plain as ours the later ones look the same."""


def exposition(seen: Seen) -> bytes:
    """One scrape."""
    registry = CollectorRegistry()  # the library's own one is the host's: nothing of it is told, and nothing added
    registry.register(_Scrape(seen))
    return generate_latest(registry)


class _Scrape:
    """Implements prometheus_client.registry.Collector."""

    def __init__(self, seen: Seen) -> None:
        self._seen = seen

    def collect(self) -> Iterator[Metric]:
        for measure in MEASURES:
            family = CounterMetricFamily if measure.grows else GaugeMetricFamily
            metric = family(measure.name, measure.meaning, labels=measure.labels)
            for labels, value in measure.read(self._seen).items():
                metric.add_metric(labels, value)
            yield metric
