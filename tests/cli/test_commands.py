"""The commands do the whole job, say what is wrong, and are quiet in a pipe."""

import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from skipwise.training.checkpoint import sealed

REPOSITORY = Path(__file__).resolve().parents[2]
TRAINING = ("--preset", "tiny", "passes_at_most=1", "threads=1", "optimizer.learning_rate=0.01")


def skipwise(*words: str | Path) -> subprocess.CompletedProcess[str]:
    """Run the command line as a user would, in a process of its own, piped."""
    return subprocess.run(  # noqa: S603 - our own program
        [sys.executable, "-c", "from skipwise.cli.main import main; main()", *map(str, words)],
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which simulate, prepare and train have run."""
    folder = tmp_path_factory.mktemp("job")
    for words in (
        (
            "simulate",
            folder / "world",
            "--viewers",
            "60",
            "--days",
            "5",
            "--seed",
            "1",
            "videos=80",
        ),
        ("prepare", folder / "world", "--out", folder / "dataset"),
    ):
        assert skipwise(*words).returncode == 0
    days = json.loads((folder / "dataset" / "dataset.json").read_text())
    until = days["last_day"][:-2] + f"{int(days['last_day'][-2:]) - 1:02d}"
    trained = skipwise(
        "train", folder / "dataset", "--out", folder / "run", "--until", until, *TRAINING
    )
    assert trained.returncode == 0, trained.stderr
    (folder / "last_day").write_text(days["last_day"])
    return folder


@pytest.mark.slow
def test_evaluate_prints_tables_of_at_most_100_columns_and_keeps_the_figures(job: Path) -> None:
    last = (job / "last_day").read_text()
    done = skipwise("evaluate", job / "run", "--from", last, "--to", last)
    assert done.returncode == 0, done.stderr
    assert max(len(line) for line in done.stdout.splitlines()) <= 100
    assert "glance" in done.stdout
    card = json.loads((job / "run" / "evaluation.json").read_text())
    assert {"value", "low", "high"} == set(card["objectives"]["glance"]["auc"])
    assert {"video_rate", "viewer_surface_rate", "random", "lightgbm"} == set(card["baselines"])


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["window", "progressive"])
def test_the_other_modes_are_measured_too_and_json_on_stdout_is_nothing_but_json(
    job: Path, mode: str
) -> None:
    last = (job / "last_day").read_text()
    words = ("evaluate", job / "run", "--from", last, "--to", last, "--mode", mode, "--json", "-")
    card = json.loads(skipwise(*words).stdout)
    assert card["mode"] == mode
    assert 0 < card["objectives"]["glance"]["auc"]["value"] < 1


@pytest.mark.slow
def test_report_names_the_file_it_wrote(job: Path) -> None:
    done = skipwise("report", job / "run")
    assert done.returncode == 0, done.stderr
    assert Path(done.stdout.strip().replace("\n", "")).is_file()


def test_a_pipe_gets_no_bars_and_no_colours(job: Path) -> None:
    done = skipwise("inspect", job / "world")
    assert done.returncode == 0
    assert "\x1b" not in done.stdout + done.stderr
    assert done.stderr == ""


def test_inspect_can_speak_json(job: Path) -> None:
    summary = json.loads(skipwise("inspect", job / "world", "--json").stdout)
    assert summary["num_viewers"] == 60


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("inspect", "nowhere"), "nowhere"),
        (("prepare", "nowhere", "--out", "x"), "nowhere"),
        (("train", "nowhere", "--out", "x"), "skipwise prepare"),
        (("train", "{dataset}", "--out", "x", "learning_rat=1"), "not a setting"),
        (("train", "{dataset}", "--out", "x", "optimizer.learning_rat=1"), "learning_rate"),
        (("train", "{dataset}", "--out", "x", "seed=x"), "must be int"),
        (("train", "{dataset}", "--out", "x", "seed=-1"), ">= 0"),
        (("train", "{dataset}", "--out", "x", "--until", "yesterday"), "2022-05-01"),
        (("train", "{dataset}", "--out", "x", "--until", "2001-01-01"), "outside the data"),
        (("train", "{dataset}", "--out", "x", "--preset", "smal"), "Did you mean 'small'"),
        (("train", "{dataset}", "--out", "{run}"), "--replace"),
        (("train", "{dataset}", "--out", "x", "--resume"), "Leave --resume out"),
        (("prepare", "{world}", "--out", "{world}"), "is not a prepared dataset"),
        (("prepare", "{world}", "--out", "{run}"), "is not a prepared dataset"),
        (("evaluate", "nowhere", "--from", "2022-05-01", "--to", "2022-05-01"), "skipwise train"),
        (("evaluate", "{run}", "--from", "2001-01-01", "--to", "2001-01-02"), "training window"),
        (
            ("evaluate", "{run}", "--from", "2101-01-01", "--to", "2101-01-02"),
            "not all in the data",
        ),
        (
            (
                "evaluate",
                "{run}",
                "--from",
                "2101-01-01",
                "--to",
                "2101-01-01",
                "--mode",
                "nightly",
            ),
            "progressive",
        ),
        (("report", "nowhere"), "skipwise train"),
    ],
)
def test_a_mistake_is_told_in_one_paragraph(job: Path, words: tuple[str, ...], told: str) -> None:
    places = {name: job / name for name in ("world", "dataset", "run")}
    done = skipwise(*(word.format(**places) for word in words))
    assert done.returncode == 2
    assert told in done.stderr.replace("\n", " ")
    assert "Traceback" not in done.stderr


def test_a_dataset_prepared_anew_is_not_measured_without_a_word(job: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(job / "run", run)
    description = json.loads((run / "run.json").read_text())
    description["dataset"]["fingerprint"] = "0" * 64
    (run / "run.json").write_text(json.dumps(sealed(description)))
    last = (job / "last_day").read_text()
    done = skipwise("evaluate", run, "--from", last, "--to", last)
    assert done.returncode == 2
    assert "prepared anew" in done.stderr


def test_unfinished_training_is_not_discarded_without_a_word(job: Path, tmp_path: Path) -> None:
    (tmp_path / "run" / "resume").mkdir(parents=True)
    done = skipwise("train", job / "dataset", "--out", tmp_path / "run", *TRAINING)
    assert done.returncode == 2
    assert "--resume, or say --replace" in done.stderr


def test_every_command_of_the_readme_exists_and_takes_what_is_shown() -> None:
    readme = (REPOSITORY / "README.md").read_text()
    shown = re.findall(r"^\$ (?:\.venv/bin/)?(skipwise [^#\n]+)", readme, flags=re.MULTILINE)
    assert len(shown) >= 6
    for line in shown:
        command, *words = shlex.split(line)[1:]
        help_text = skipwise(command, "--help").stdout
        for option in (word for word in words if word.startswith("--")):
            assert option in help_text, line


@pytest.mark.parametrize(
    "command", ["simulate", "inspect", "prepare", "train", "evaluate", "report", "demo"]
)
def test_help_shows_an_example(command: str) -> None:
    assert f"Example: skipwise {command}" in skipwise(command, "--help").stdout
