from pathlib import Path

import pytest

from skipwise.errors import ExperimentError, SettingError
from skipwise.experiments.definition import read_definition
from tests.experiments.planted import DEFINITION, FILE


def written(folder: Path, text: str) -> Path:
    path = folder / "experiment.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_file_reads_as_what_it_says(tmp_path: Path) -> None:
    read = read_definition(written(tmp_path, FILE))
    assert (read.name, read.start_day, read.variants) == (
        *("planted", DEFINITION.start_day, DEFINITION.variants),
    )
    assert (read.metrics, read.guardrails) == (DEFINITION.metrics, DEFINITION.guardrails)
    assert read.folder == tmp_path


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ("share = 0.5", "share = 0.6", "shares add up to 1.2, so variants overlap"),
        ("share = 0.5", "share = 0.00005", "which no viewer can reach"),
        ("share = 0.5", "share = 0.0", "which no viewer can reach"),
        ('"watch_per_viewer"', '"watch_per_wiever"', "Did you mean 'watch_per_viewer'?"),
        ('"return_rate"', '"happiness"', "metric = 'happiness', must be one of"),
        ('model = "runs/b"', "", "variant 'treatment' has no model"),
        ('name = "treatment"', 'name = "control"', "at least two, with names of their own"),
        ('name = "planted"', 'control = "c"\nname = "planted"', "is none of the variants"),
        ('name = "treatment"', 'name = "stopped"', "which says that one was stopped"),
        ("start = 2024-03-08", 'start = "soon"', "start = 'soon' is not a day"),
        ("name = \"planted\"", "", "has no name"),
        ('name = "glance_rate"', 'name = "watch_per_viewer"', "each may stand there once"),
        ('name = "planted"', 'name = "planted"\nfolder = "/"', "names a folder, which is always"),
    ],
)  # fmt: skip
def test_what_cannot_be_run_is_refused(tmp_path: Path, before: str, after: str, said: str) -> None:
    assert before in FILE
    with pytest.raises(ExperimentError) as refused:
        read_definition(written(tmp_path, FILE.replace(before, after)))
    assert said in str(refused.value)
    assert str(refused.value).endswith(".")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (FILE.replace("days = 4", "dais = 4", 1), "Did you mean 'days'?"),
        (FILE.replace("days = 4", "dais = 4", 1), "variants, metrics, guardrails. Did you mean"),
        (FILE.replace("days = 4", "days = 0", 1), "days = 0, must be >= 1"),
        (FILE + "minimum_effect = 0.1", "guardrails[0].minimum_effect is not a setting"),
        ("name = ", "cannot be read as TOML"),
    ],
)
def test_a_wrong_key_or_number_is_refused(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(SettingError) as refused:
        read_definition(written(tmp_path, text))
    assert said in str(refused.value)


def test_a_file_that_is_not_there_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match="does not exist; an experiment is a TOML file"):
        read_definition(tmp_path / "absent.toml")


def test_the_key_of_an_assignment_changes_with_what_it_depends_on(tmp_path: Path) -> None:
    keys = {
        read_definition(written(tmp_path, text)).assignment_key
        for text in (
            FILE,
            'salt = "s"\n' + FILE,
            FILE.replace("share = 0.5", "share = 0.4"),
            FILE.replace('"planted"', '"other"'),
        )
    }
    assert len(keys) == 4
    assert (
        read_definition(written(tmp_path, FILE.replace("runs/b", "runs/c"))).assignment_key in keys
    )
