"""The commands do the whole job, say what is wrong, and are quiet in a pipe."""

import json
import re
import shutil
import socket
import subprocess
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ProcessFailure

from skipwise.serving.telling import say_exports
from skipwise.training.checkpoint import sealed
from tests.cli.typed import skipwise, told


@pytest.fixture(scope="module")
def evaluated(job: Path) -> subprocess.CompletedProcess[str]:
    """`evaluate` of the last day, its figures kept in `card.json` too."""
    last = (job / "last_day").read_text()
    words = ("--from", last, "--to", last, "--json", job / "card.json")
    return told("evaluate", job / "run", *words)


def test_simulate_tells_the_world_it_made_however_it_was_asked_for(tmp_path: Path) -> None:
    done = skipwise("simulate", tmp_path / "world", "--days", "3", "days=2", "viewers=7", "seed=5")
    assert done.returncode == 0
    assert "7 simulated viewers, 2 days, seed 5" in " ".join(done.stdout.split())


@pytest.mark.slow
def test_evaluate_prints_tables_of_at_most_100_columns_and_keeps_the_figures(
    job: Path, evaluated: subprocess.CompletedProcess[str]
) -> None:
    done = evaluated
    assert done.returncode == 0, done.stderr
    assert max(len(line) for line in done.stdout.splitlines()) <= 100
    assert "glance" in done.stdout
    card = json.loads((job / "run" / "evaluation.json").read_text())
    assert {"value", "low", "high"} == set(card["objectives"]["glance"]["auc"])
    assert {"video_rate", "viewer_surface_rate", "random", "lightgbm"} == set(card["baselines"])


@pytest.mark.slow
def test_the_json_has_every_key_whatever_was_learnt(
    job: Path, evaluated: subprocess.CompletedProcess[str]
) -> None:
    """A figure is value, low and high, or null with its reason; `click` is not in this log."""
    assert evaluated.returncode == 0
    card = json.loads((job / "card.json").read_text())
    wanted = dict.fromkeys(
        ("glance", "effective", "long", "finished", "like", "negative", "click"),
        ("auc", "gauc", "log_loss", "ece"),
    ) | {"watch": ("mae_s", "xauc")}
    for objective, metrics in wanted.items():
        found = card["objectives"][objective]
        for metric in metrics:
            if found[metric] is None:
                assert found["reasons"][metric], objective
            else:
                assert set(found[metric]) == {"value", "low", "high"}
                assert found[metric]["low"] <= found[metric]["high"]
    for objective in ("glance", "watch"):
        assert None not in [card["objectives"][objective][name] for name in wanted[objective]]
    click = card["objectives"]["click"]
    assert click["rows"] == click["positives"] == 0
    assert click["reasons"]["auc"] == "not learnt: the log does not say"
    assert card["rows"] == card["objectives"]["glance"]["rows"] > 100
    assert {"score", "logged", "random"} < set(card["slate"]["glance_at_1"])
    baseline = card["baselines"]["video_rate"]["objectives"]["glance"]
    assert set(baseline["auc"]) == {"value", "low", "high"}
    measured = {name for name, found in card["objectives"].items() if "auc" in found}
    learnt = {name for name in measured if name not in card["masked_objectives"]}
    for rate in ("video_rate", "viewer_surface_rate"):
        assert set(card["baselines"][rate]["objectives"]) == learnt
    assert card["label_rules"]["glance_below_s"] == 3.0
    assert card["label_rules"]["glance_needs_duration"] is True


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["window", "progressive"])
def test_the_other_modes_are_measured_too_and_json_on_stdout_is_nothing_but_json(
    job: Path, mode: str
) -> None:
    last = (job / "last_day").read_text()
    words = ("evaluate", job / "run", "--from", last, "--to", last, "--mode", mode, "--json", "-")
    card = json.loads(told(*words).stdout)
    assert card["mode"] == mode
    assert 0 < card["objectives"]["glance"]["auc"]["value"] < 1


@pytest.mark.slow
def test_report_names_the_file_it_wrote(job: Path) -> None:
    done = told("report", job / "run")
    assert done.returncode == 0, done.stderr
    assert Path(done.stdout.strip().replace("\n", "")).is_file()


def test_a_pipe_gets_no_bars_and_no_colours(job: Path) -> None:
    done = skipwise("inspect", job / "world")
    assert done.returncode == 0
    assert "\x1b" not in done.stdout + done.stderr
    assert done.stderr == ""


def test_inspect_can_speak_json(job: Path) -> None:
    summary = json.loads(told("inspect", job / "world", "--json").stdout)
    assert summary["num_viewers"] == 60
    counts = summary["watch_histogram"]
    assert counts[-1] == 0  # so that there is an empty end to leave out
    plot = told("inspect", job / "world").stdout.split("How long people watch (events)\n")[1]
    bars = re.findall(r"^ *[\d.]+-[\d.]+ s .*$", plot, flags=re.MULTILINE)
    assert len(bars) == 1 + max(at for at, count in enumerate(counts) if count)


def test_a_log_with_many_refused_rows_is_read_when_told_to(job: Path, tmp_path: Path) -> None:
    """With the words that the refusal itself names."""
    log, out = tmp_path / "log", tmp_path / "dataset"
    shutil.copytree(job / "world", log)
    events = pq.read_table(log / "events.parquet")
    watch_ms = events["watch_ms"].to_numpy().copy()
    watch_ms[: len(watch_ms) // 20] = -5
    place = events.column_names.index("watch_ms")
    pq.write_table(events.set_column(place, "watch_ms", pa.array(watch_ms)), log / "events.parquet")
    refused = told("inspect", log)
    assert refused.returncode == 2
    words = re.search(r"add (read\.refused_share_at_most=\S+) to the\s+command", refused.stderr)
    assert words is not None, refused.stderr
    summary = json.loads(told("inspect", log, "--json", words[1]).stdout)
    assert sum(refusal["count"] for refusal in summary["refusals"]) == len(watch_ms) // 20
    prepared = told("prepare", log, "--out", out, words[1])
    assert prepared.returncode == 0, prepared.stderr
    described = json.loads((out / "dataset.json").read_text())
    assert described["num_events"] == len(watch_ms) - len(watch_ms) // 20
    share = float(words[1].split("=")[1])
    assert described["settings"]["read"]["refused_share_at_most"] == share


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("inspect", "nowhere"), "nowhere"),
        (("inspect", "{world}", "read.refused_share=1"), "refused_share_at_most"),
        (("prepare", "nowhere", "--out", "x"), "nowhere"),
        (("prepare", "nowhere", "--out", "x", "read.watch_at_most_s=0"), "> 0"),
        (("train", "nowhere", "--out", "x"), "skipwise prepare"),
        (("train", "{dataset}", "--out", "x", "learning_rat=1"), "not a setting"),
        (("train", "{dataset}", "--out", "x", "optimizer.learning_rat=1"), "learning_rate"),
        (("train", "{dataset}", "--out", "x", "seed=x"), "must be int"),
        (("train", "{dataset}", "--out", "x", "seed=-1"), ">= 0"),
        (("train", "{dataset}", "--out", "x", "--until", "yesterday"), "2022-05-01"),
        (("train", "{dataset}", "--out", "x", "--until", "2001-01-01"), "outside the data"),
        (("train", "{dataset}", "--out", "x", "--preset", "smal"), "Did you mean 'small'"),
        (("train", "{dataset}", "--out", "x", "--preset", "aut"), "must be one of auto, tiny"),
        (("train", "{dataset}", "--out", "{run}"), "--replace"),
        (("train", "{dataset}", "--out", "x", "--resume"), "Leave --resume out"),
        (("prepare", "nowhere", "--out", "{dataset}"), "say --replace"),
        (("prepare", "nowhere", "--out", "{dataset}", "--only", "x", "--replace"), "beside --only"),
        (("simulate", "{world}"), "say --replace"),
        (("simulate", "{dataset}", "--replace"), "is not a simulated world"),
        (("prepare", "{world}", "--out", "{world}"), "is not a prepared dataset"),
        (("prepare", "{world}", "--out", "{world}", "--replace"), "is not a prepared dataset"),
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
def test_a_mistake_is_told_in_one_paragraph(job: Path, words: tuple[str, ...], why: str) -> None:
    places = {name: job / name for name in ("world", "dataset", "run")}
    done = told(*(word.format(**places) for word in words))
    assert done.returncode == 2
    assert why in done.stderr.replace("\n", " ")
    assert "Traceback" not in done.stderr


def test_torchrun_ends_with_the_same_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It prints pages about a process that failed, and at their end what that one has noted."""
    noted = tmp_path / "error.json"
    monkeypatch.setenv("TORCHELASTIC_ERROR_FILE", str(noted))
    done = told("train", tmp_path / "nowhere", "--out", tmp_path / "run")
    assert done.returncode == 2
    failure = ProcessFailure(local_rank=0, pid=1, exitcode=2, error_file=str(noted))
    account = str(ChildFailedError("skipwise", {0: failure}))
    *_, last, _border = account.splitlines()
    assert last == f"  traceback : {done.stderr.strip()}"
    assert last.startswith("  traceback : skipwise: ")


SPLIT = """
name = "split"
start = 2024-03-08
minimum_viewers = 2
variants = [
    { name = "control", share = 0.5, model = "run" },
    { name = "skip-more", share = 0.5, model = "MODEL", score = "w.json" },
]
metrics = [{ name = "watch_per_viewer" }]
"""


def checked(folder: Path, weights: str, model: str = "run") -> subprocess.CompletedProcess[str]:
    """`experiment check` of two variants, of which the second has these weights."""
    (folder / "w.json").write_text(weights)
    (folder / "split.toml").write_text(SPLIT.replace("MODEL", model))
    return told("experiment", "check", folder / "split.toml")


def test_an_experiment_is_ready_only_where_each_variant_could_be_served(
    job: Path, tmp_path: Path
) -> None:
    shutil.copytree(job / "run", tmp_path / "run")
    well = checked(tmp_path, '{"glance_power": 4}')
    assert well.returncode == 0, well.stderr
    assert "split: ready" in well.stdout
    shutil.copytree(tmp_path / "run", tmp_path / "other")
    description = json.loads((tmp_path / "other" / "run.json").read_text())
    description["dataset"]["time_zone"] = "Asia/Tokyo"
    (tmp_path / "other" / "run.json").write_text(json.dumps(sealed(description)))
    shutil.copytree(tmp_path / "run", tmp_path / "changed")
    (tmp_path / "changed" / "run.json").write_text(json.dumps(description | {"x": 1}))
    shutil.copytree(tmp_path / "run", tmp_path / "old")
    (tmp_path / "old" / "run.json").write_text(json.dumps({"format_version": 1}))
    silent = {"watch_power": 0, "glance_power": 0, "negative_power": 0}
    goods = ("effective", "long", "finished", "click", "like", "follow", "comment", "share")
    silent_too = json.dumps(silent | {name: {"power": 0} for name in goods})
    for weights, model, why in (
        ('{"skip_power": 4}', "run", "skip_power is not a setting"),
        ('{"glance_power": -4}', "run", "glance_power = -4, must be >= 0"),
        ("", "run", "cannot be read as JSON"),
        (silent_too, "run", "give no power to any"),
        ("{}", "nowhere", "is not a trained run"),
        ("{}", "other", "trained by other rules"),
        ("{}", "changed", "does not fit the checksum"),
        ("{}", "old", "format version 1, must be"),
    ):
        refused = checked(tmp_path, weights, model)
        said = refused.stderr.replace("\n", " ")
        assert refused.returncode == 2, why
        assert why in said
        assert "variant 'skip-more'" in said
        assert ("w.json" if model == "run" else model) in said


def test_serve_says_what_is_wrong_before_it_says_that_it_starts(job: Path, tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        for run, why in (("nope", "is not a trained run"), (job / "run", f"--port {port} cannot")):
            words = ("--port", port, "--state", f"sqlite:{tmp_path / 'state.db'}")
            refused = told("serve", run, *words)
            assert refused.returncode == 2
            assert why in refused.stderr
            assert "starting" not in refused.stderr
    assert not list(tmp_path.iterdir())


def test_an_export_is_announced_once_per_run(job: Path) -> None:
    said: list[str] = []
    say_exports([job / "run", job / "run"], said.append)
    assert said == [f"exporting {job / 'run'} to ONNX, once: a minute or two of one core"]
