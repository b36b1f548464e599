"""Whatever is sent: no 500, nothing lost, nothing twice. `make fuzz` sends more of it."""

import os
from collections import Counter
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from skipwise.features.dataset import Dataset
from skipwise.serving.app import ENDPOINTS
from skipwise.serving.openapi import Described
from skipwise.serving.serve import Service
from skipwise.training.checkpoint import TrainedRun
from tests.serving.running import Client, running

CASES = int(os.environ.get("SKIPWISE_FUZZ_CASES", "12"))
"""For each of the ways in."""
FUZZED = settings(
    max_examples=CASES,
    deadline=None,
    derandomize=CASES <= 100,
    suppress_health_check=list(HealthCheck),
)
SENT: Counter[str] = Counter()
"""Cases of each way in that went well."""
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]


@pytest.fixture(scope="module")
def fuzzed(
    small_run: TrainedRun,
    small_dataset: Dataset,
    tmp_path_factory: pytest.TempPathFactory,
    request: pytest.FixtureRequest,
) -> Iterator[Client]:
    """A server of its own: what is sent here may change anything. Tells how much was sent."""
    state = f"sqlite:{tmp_path_factory.mktemp('fuzzed') / 'state.db'}"
    with running(Service(run=small_run.path, data=small_dataset.path, state=state)) as client:
        yield client
    plugin = request.config.pluginmanager.getplugin
    if CASES > 100:
        with plugin("capturemanager").global_and_fixture_disabled():
            lines = [f"{number:8,} {way}" for way, number in SENT.items()]
            lines += [f"{SENT.total():8,} cases in all"]
            if reporter := plugin("terminalreporter"):  # not in a worker of several
                reporter.write_line("\n".join(["", *lines]))


@pytest.fixture(scope="module")
def api(fuzzed: Client) -> Any:
    return schemathesis.openapi.from_url(str(fuzzed.base_url) + "/openapi.json")


@pytest.mark.parametrize("mode", list(schemathesis.GenerationMode))
@pytest.mark.parametrize(
    "described",
    [each.described for each in ENDPOINTS],
    ids=lambda each: f"{each.method} {each.path}",
)
def test_what_the_document_allows_and_what_it_does_not(
    api: Any, described: Described, mode: schemathesis.GenerationMode
) -> None:
    varied = described.body is not None or "{" in described.path
    if not varied:
        mode = schemathesis.GenerationMode.POSITIVE  # there is nothing to get wrong
    way = f"{described.method} {described.path}, {mode.value}"

    @FUZZED
    @given(case=api[described.path][described.method].as_strategy(generation_mode=mode))
    def send(case: Any) -> None:
        case.validate_response(case.call(), checks=CHECKS)
        SENT[way] += 1

    send()
    assert SENT[way] >= CASES or not varied


words = st.text(min_size=1, max_size=12)
viewers = words.filter(lambda word: word not in {".", ".."})
flags = st.none() | st.booleans()
events = st.fixed_dictionaries(
    {
        "event_id": st.sampled_from("abcdefgh"),
        "viewer_id": st.sampled_from(["v", "w", "ü\u0000\u2028"]) | viewers,
        "video_id": st.sampled_from(["v0", "v1", "v10"]) | words,
        "shown_at_ms": st.integers(10**11, 1_700_000_000_000),
    },
    optional={
        "watch_ms": st.none() | st.integers(0, 7 * 86_400_000),
        "duration_ms": st.none() | st.integers(1, 7 * 86_400_000),
        "surface": st.none() | words,
        "liked": flags,
        "disliked": flags,
        "long_viewed": flags,
        "position": st.none() | st.integers(0, 1_000_000),
        "propensity": st.none() | st.floats(1e-9, 1),
    },
)


@FUZZED
@given(batches=st.lists(st.lists(events, max_size=6), min_size=1, max_size=4), asked=viewers)
def test_no_event_is_lost_or_counted_twice(
    fuzzed: Client, batches: list[list[dict[str, Any]]], asked: str
) -> None:
    for viewer in {event["viewer_id"] for batch in batches for event in batch}:
        fuzzed.delete(f"/v1/viewers/{_quoted(viewer)}")
    held: dict[str, int] = {}
    for batch in batches:
        answer = fuzzed.post("/v1/events", json={"events": batch})
        assert answer.status_code == 200, answer.text
        counts = answer.json()
        new = 0
        for event in batch:
            key = (event["viewer_id"], event["event_id"])
            if key not in _SENT:
                _SENT.add(key)
                held[event["viewer_id"]] = held.get(event["viewer_id"], 0) + 1
                new += 1
        assert (counts["accepted"], counts["duplicates"]) == (new, len(batch) - new)
        for event in batch:
            slate = {"viewer_id": event["viewer_id"], "candidates": [event["video_id"]]}
            assert fuzzed.post("/v1/rank", json=slate).status_code == 200
    for viewer, number in held.items():
        assert fuzzed.ask("GET", f"/v1/viewers/{_quoted(viewer)}")["num_events"] == number
    assert fuzzed.post("/v1/feed", json={"viewer_id": asked}).status_code == 200
    SENT["batches of events"] += 1


_SENT: set[tuple[str, str]] = set()
"""Ids count once for as long as the server runs, also of viewers that were forgotten."""


def _quoted(viewer_id: str) -> str:
    return quote(viewer_id, safe="")
