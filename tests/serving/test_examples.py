"""Every body has an example, granted as it stands and refused with a field mistyped."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from skipwise.features.dataset import Dataset
from skipwise.serving.app import ENDPOINTS
from skipwise.serving.examples import EXAMPLES
from skipwise.serving.openapi import Described
from skipwise.serving.serve import Service
from skipwise.training.checkpoint import TrainedRun
from tests.serving.running import Client, running

TAKE_A_BODY = [each.described for each in ENDPOINTS if each.described.body is not None]


@pytest.fixture(scope="module")
def exemplary(
    small_run: TrainedRun, small_dataset: Dataset, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Client]:
    """A server of its own, with the run that the examples name beside its first one."""
    folder: Path = tmp_path_factory.mktemp("exemplary")
    for name in ("run", "run-2"):
        shutil.copytree(small_run.path, folder / name)
    state = f"sqlite:{folder / 'state.db'}"
    with running(Service(run=folder / "run", data=small_dataset.path, state=state)) as client:
        yield client


@pytest.mark.parametrize("described", TAKE_A_BODY, ids=lambda each: f"{each.method} {each.path}")
def test_the_example_of_a_body_is_granted_as_it_stands(
    exemplary: Client, described: Described
) -> None:
    document = exemplary.ask("GET", "/openapi.json")
    operation = document["paths"][described.path][described.method.lower()]
    content = operation["requestBody"]["content"]["application/json"]
    exemplary.ask(described.method, described.path, content["example"])


@pytest.mark.parametrize("described", TAKE_A_BODY, ids=lambda each: f"{each.method} {each.path}")
def test_a_mistyped_field_of_a_body_is_refused_with_the_nearest(
    exemplary: Client, described: Described
) -> None:
    """Each field of each example in turn, also of what stands inside others."""
    for path, name, body in _mistyped(msgspec.to_builtins(EXAMPLES[described.body])):
        refused = exemplary.request(described.method, described.path, json=body)
        assert refused.status_code == 422
        told = refused.json()
        assert told["field"] == f"{path}{name}s"
        assert f"must be absent: it is no field. Did you mean '{name}'?" in told["error"]


@pytest.mark.parametrize("described", TAKE_A_BODY, ids=lambda each: f"{each.method} {each.path}")
def test_a_field_like_none_is_refused_without_a_guess(
    exemplary: Client, described: Described
) -> None:
    body = {**msgspec.to_builtins(EXAMPLES[described.body]), "zzz": 1}
    told = exemplary.request(described.method, described.path, json=body).json()
    assert (told["field"], told["must_be"]) == ("zzz", "absent: it is no field")
    assert "Did you mean" not in told["error"]


def _mistyped(value: Any, path: str = "") -> Iterator[tuple[str, str, Any]]:
    """Yield where a field was, its name, and everything with an `s` put after that name."""
    if isinstance(value, list | tuple):
        for place, each in enumerate(value):
            for at, name, wrong in _mistyped(each, f"{path}[{place}]."):
                yield at, name, [*value[:place], wrong, *value[place + 1 :]]
    elif isinstance(value, dict):
        for name, each in value.items():
            others = {key: other for key, other in value.items() if key != name}
            yield path, name, {**others, f"{name}s": each}
            inside = f"{path}{name}" if isinstance(each, list | tuple) else f"{path}{name}."
            for at, inner, wrong in _mistyped(each, inside):
                yield at, inner, {**others, name: wrong}
