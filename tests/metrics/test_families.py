"""Counting by the batch comes to the same as counting one by one."""

from __future__ import annotations

from bisect import bisect_left

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Histogram

from atlasqueue.buckets import SECONDS
from atlasqueue_server.metrics.families import HistogramFamily
from atlasqueue_server.metrics.names import OTHER, UNKNOWN, Names


def buckets(registry: CollectorRegistry) -> dict[str, float]:
    """le → how many."""
    return {
        sample.labels["le"]: sample.value
        for family in registry.collect()
        for sample in family.samples
        if sample.name.endswith("_bucket")
    }


@given(st.lists(st.floats(0, 1e6) | st.sampled_from(SECONDS), max_size=50))
def test_a_batch_falls_into_the_buckets_of_prometheus(values: list[float]) -> None:
    batch, single, theirs = CollectorRegistry(), CollectorRegistry(), CollectorRegistry()
    HistogramFamily(batch, "h", "help").observe_all((), values)
    histogram = HistogramFamily(single, "h", "help")
    reference = Histogram("h", "help", buckets=SECONDS, registry=theirs)
    for value in values:
        histogram.observe((), value)
        reference.observe(value)
    assert buckets(batch) == buckets(single) == buckets(theirs)


def test_times_count_as_often() -> None:
    registry = CollectorRegistry()
    HistogramFamily(registry, "h", "help", bounds=SECONDS).observe((), 0.3, 7)
    assert registry.get_sample_value("h_count") == 7
    assert (
        registry.get_sample_value(
            "h_bucket", {"le": repr(float(SECONDS[bisect_left(SECONDS, 0.3)]))}
        )
        == 7
    )


def test_names_beyond_the_bound_are_other() -> None:
    names = Names(queues_max=2, pairs_max=3)
    assert [names.pair("a", "x"), names.pair("a", "y"), names.pair("b", "x")] == [
        ("a", "x"),
        ("a", "y"),
        ("b", "x"),
    ]
    assert names.pair("a", "z") == ("a", OTHER)
    assert names.pair("c", "x") == (OTHER, OTHER)
    assert names.pair("a", "x") == ("a", "x")
    assert names.pair("a", UNKNOWN) == ("a", UNKNOWN)
    assert names.pair("c", UNKNOWN) == (OTHER, OTHER)
