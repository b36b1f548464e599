"""A refused setting of a server bears the name that the user has to type."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from skipwise.cli.arguments import settings_from
from skipwise.cli.main import app
from skipwise.errors import SettingError
from skipwise.features.dataset import Dataset
from skipwise.loop.closed import loop_settings
from skipwise.serving.serve import ServiceSettings
from skipwise.settings import settings_to_dict
from skipwise.training.checkpoint import TrainedRun


def numbers_in(values: dict[str, Any], prefix: str = "") -> Iterator[str]:
    """Yield the full names of the numbers among nested settings."""
    for name, value in values.items():
        if isinstance(value, dict):
            yield from numbers_in(value, f"{prefix}{name}.")
        elif isinstance(value, int | float) and not isinstance(value, bool):
            yield f"{prefix}{name}"


UNBOUNDED = {"serving.seed", "serving.encoded_viewers", "seed", "encoded_viewers"}
OF_SERVE = list(numbers_in(settings_to_dict(ServiceSettings())))
OF_LOOP = list(numbers_in(settings_to_dict(loop_settings(0))))


@pytest.mark.parametrize("name", sorted({*OF_SERVE} - UNBOUNDED))
def test_serve_names_a_refused_setting_as_it_is_typed(name: str) -> None:
    with pytest.raises(SettingError) as refused:
        settings_from(ServiceSettings(), None, [f"{name}=-1"])
    assert str(refused.value).startswith(f"{name} = -1, must be ")
    assert str(refused.value).endswith(f" Change {name}.")


@pytest.mark.parametrize("name", sorted({*OF_LOOP} - UNBOUNDED))
def test_loop_names_it_as_it_is_typed_there(name: str) -> None:
    assert f"serving.{name}" in OF_SERVE
    with pytest.raises(SettingError) as refused:
        settings_from(loop_settings(0), None, [f"{name}=-1"])
    assert str(refused.value).startswith(f"{name} = -1, must be ")
    assert str(refused.value).endswith(f" Change {name}.")


def test_serve_names_what_is_seen_only_once_the_run_is_read(
    small_run: TrainedRun, small_dataset: Dataset, tmp_path: Path
) -> None:
    state = ("--state", f"sqlite:{tmp_path / 'state.db'}", "--backend", "eager", "--port", "0")
    words = ("serve", str(small_run.path), "--data", str(small_dataset.path), *state)
    refused = CliRunner().invoke(app, [*words, "serving.state.keep_events=1"])
    assert refused.exit_code == 2, refused.output
    told = refused.stderr.replace("\n", " ")
    assert " serving.state.keep_events = 1, must be at least the model's history of" in told


def test_an_unknown_backend_is_refused_as_the_option_it_is() -> None:
    refused = CliRunner().invoke(app, ["serve", "run", "--backend", "onyx"])
    assert refused.exit_code == 2
    told = refused.stderr.replace("\n", " ")
    assert "--backend = 'onyx', must be one of eager, onnx, compiled. Did you mean 'onnx'?" in told
