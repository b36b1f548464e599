"""The page: what is on it, what may never be on it, and how it comes to be on disk."""

import dataclasses
import errno
import json
import os
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from skipwise.errors import DatasetError, RunError, StorageError
from skipwise.features.dataset import Dataset
from skipwise.report.findings import gather
from skipwise.report.page import write_report
from skipwise.report.retrieval_section import retrieval_section
from skipwise.settings import apply_settings
from skipwise.storage import write_json
from skipwise.training.checkpoint import sealed
from skipwise.training.fit import train
from skipwise.training.settings import preset
from tests.report.pages import Page

ANCHORS = (
    "summary", "data", "training", "baselines", "calibration", "slates", "curves", "attention",
    "relations",
)  # fmt: skip
CHARTS = (
    "watching", "surfaces", "learning", "against-baselines", "calibration-plots", "slices",
    "mean-curve", "examples", "attention", "pair-biases", "relations",
)  # fmt: skip
HOSTILE = "<script>alert('x')</script>&$\\frac{1}{$"


def read(file: Path) -> Page:
    return Page(file.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def written(measured_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_report(measured_run, tmp_path_factory.mktemp("page") / "new" / "report.html")


@pytest.fixture(scope="module")
def page(written: Path) -> Page:
    return read(written)


def test_every_section_and_chart_is_there_once(page: Page) -> None:
    ids = page.attributes("id")
    assert len(ids) == len(set(ids))
    assert set(ANCHORS) <= set(ids)
    assert {f"chart-{name}" for name in CHARTS} <= set(ids)
    assert [tag for tag, _ in page.elements].count("svg") == len(CHARTS)


def test_the_page_needs_no_script_and_nothing_from_elsewhere(page: Page) -> None:
    assert not page.tags() & {"script", "link", "img", "iframe", "object", "embed", "form", "base"}
    for tag, attributes in page.elements:
        for name, value in attributes.items():
            assert not name.startswith("on"), f"{tag} has a handler {name}"
            assert "http" not in value.replace("http-equiv", ""), f"{tag} {name}={value}"
            assert name != "src"
    assert "http" not in re.sub(r'http-equiv="', "", page.source)
    assert all(link.startswith("#") for link in page.attributes("href"))
    assert all(inside.startswith("#") for inside in re.findall(r"url\((.)", page.source))
    assert "@import" not in page.source
    assert "default-src 'none'" in page.source


def test_every_reference_inside_the_page_has_its_target(page: Page) -> None:
    ids = set(page.attributes("id"))
    links = {link[1:] for link in page.attributes("href")}
    links |= set(re.findall(r"url\(#([^)]*)\)", page.source))
    links |= set(page.attributes("aria-labelledby"))
    assert len(links) > 20
    assert links <= ids


def test_every_drawing_has_words_for_those_who_cannot_see_it(page: Page) -> None:
    drawings = [found for tag, found in page.elements if tag == "svg"]
    assert all(found["role"] == "img" and len(found["aria-label"]) > 10 for found in drawings)
    assert all("viewbox" in found for found in drawings)


def test_the_figures_are_those_of_the_evaluation(page: Page, measured_run: Path) -> None:
    card = json.loads((measured_run / "evaluation.json").read_text(encoding="utf-8"))
    glance = card["objectives"]["glance"]
    row = next(row for row in page.rows if row[:1] == ["Skipwise"])
    for field, metric in zip(row[1:], ("auc", "gauc", "log_loss", "ece"), strict=True):
        found = glance[metric]
        assert field == f"{found['value']:.3f} {found['low']:.3f} to {found['high']:.3f}"
    theirs = card["baselines"]["random"]["objectives"]["glance"]
    assert page.row("random", f"{theirs['auc']['value']:.3f} {theirs['auc']['low']:.3f}")
    assert (theirs["auc"], "“Random” is every order" in page.text) == (
        {"value": 0.5, "low": 0.5, "high": 0.5},
        True,
    )
    assert page.row("mean absolute error", f"{card['objectives']['watch']['mae_s']['value']:.2f}")
    slate = card["slate"]["glance_at_3"]
    assert page.row(
        "GVV@3", *(f"{slate[who]['value']:.3f}" for who in ("score", "logged", "random"))
    )
    assert f"Measured on {card['rows']:,} events of {card['viewers']:,} viewers" in page.text


def test_what_retrieval_finds_is_what_the_evaluation_found(page: Page, measured_run: Path) -> None:
    card = json.loads((measured_run / "evaluation.json").read_text(encoding="utf-8"))
    found = card["retrieval"]
    row = page.row("the model's retrieval head")
    for field, level in zip(row[1:], found["at"].values(), strict=True):
        recall = level["ours"]
        assert field.startswith(f"{recall['value']:.3f}")
    theirs = found["at"]["200"]["popularity"]
    assert page.row("popularity: effective", f"{theirs['value']:.3f}")
    assert f"{found['views']:,} effective views by {found['viewers']:,} viewers" in page.text


def test_why_retrieval_was_not_measured_is_said(run: Path, card: dict[str, Any]) -> None:
    def said(card: dict[str, Any]) -> str:
        (block,) = retrieval_section(dataclasses.replace(findings, card=card)).blocks
        return getattr(block, "text", "")

    findings = gather(run)
    silent = {"reason": "the log does not say which views were effective"}
    assert said(card | {"retrieval": silent}) == f"Not measured: {silent['reason']}."
    del card["retrieval"]  # an evaluation from before retrieval was measured
    assert said(card).startswith("This evaluation holds no figures of retrieval")


def test_the_data_is_that_of_the_dataset(page: Page, small_dataset: Dataset) -> None:
    said = small_dataset.description
    glance = said["labels"]["glance"]
    share = f"{100 * glance['positive'] / glance['known']:.2f} %"
    row = page.row("glance", "watched less than 3 s")
    assert row[2:] == [f"{glance['known']:,}", f"{glance['positive']:,}", share]
    assert f"Events {said['num_events']:,}" in page.text
    for note in said["notes"]:
        assert page.row(note["what"], f"{note['count']:,}")


def test_the_training_is_that_of_the_run(page: Page, measured_run: Path) -> None:
    description = json.loads((measured_run / "run.json").read_text(encoding="utf-8"))
    last = json.loads((measured_run / "progress.jsonl").read_text(encoding="utf-8").splitlines()[0])
    row = page.row("search 1", "validation")
    assert row[2] == f"{last['validation']['glance']:.4f}"
    assert page.row("click", description["masked_objectives"]["click"])
    assert page.row("tokens_per_batch ✱", "1024", str(preset("tiny").tokens_per_batch))
    assert page.row("model.width", "16", "the same")
    assert page.row("torch", description["versions"]["torch"])


def test_a_changed_figure_changes_the_page(run: Path, card: dict[str, Any]) -> None:
    card["objectives"]["glance"]["auc"] = {"value": 0.98765, "low": 0.987, "high": 0.989}
    random = card["baselines"]["random"]["objectives"]["glance"]
    random["difference"]["auc"] = {"value": -0.4321, "low": -0.44, "high": -0.42}
    random["difference"]["gauc"] = random["difference"]["log_loss"] = None
    rate = card["baselines"]["video_rate"]["objectives"]["glance"]
    random["auc"] = {"value": 0.51, "low": 0.5, "high": 0.52}  # one order, as was drawn before
    rate["difference"] = dict.fromkeys(rate["difference"])
    write_json(run / "evaluation.json", card)
    page = read(write_report(run))
    assert page.row("Skipwise", "0.988 0.987 to 0.989")
    assert page.row("glance", "– – – cannot be said", "▼ – – behind by AUC")  # noqa: RUF001
    assert "“Random” is every order" not in page.text
    assert "▼ ours behind by 0.432" in page.row("random", f"{random['auc']['value']:.3f}")[1]


def test_without_an_evaluation_the_rest_is_there_and_says_how_to_make_one(run: Path) -> None:
    (run / "evaluation.json").unlink()
    page = read(write_report(run))
    assert "skipwise evaluate RUN" in page.text
    ids = set(page.attributes("id"))
    assert set(ANCHORS) <= ids
    assert {"chart-watching", "chart-learning", "chart-examples", "chart-relations"} <= ids
    assert not {"chart-against-baselines", "chart-calibration-plots"} & ids
    assert "days after the training window" in page.text


def test_without_the_dataset_the_rest_is_there(run: Path, tmp_path: Path) -> None:
    description = json.loads((run / "run.json").read_text(encoding="utf-8"))
    description["dataset"]["path"] = str(tmp_path / "gone")
    write_json(run / "run.json", sealed(description))
    page = read(write_report(run))
    ids = set(page.attributes("id"))
    assert f"the dataset is no longer at {tmp_path / 'gone'}" in page.text
    assert {"chart-against-baselines", "chart-learning", "chart-pair-biases"} <= ids
    assert not {"chart-watching", "chart-examples", "chart-attention"} & ids


def test_a_dataset_that_was_asked_for_must_be_there(run: Path, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="no longer at"):
        write_report(run, dataset_path=tmp_path / "gone")


def test_a_copied_run_and_a_moved_dataset_give_the_same_bytes(
    run: Path, small_dataset: Dataset, written: Path, tmp_path: Path
) -> None:
    """And without an `out` the report lands in the run."""
    moved = Path(shutil.copytree(small_dataset.path, tmp_path / "moved"))
    assert write_report(run, dataset_path=moved) == run / "report.html"
    assert (run / "report.html").read_bytes() == written.read_bytes()


def test_names_from_data_cannot_become_markup(
    run: Path, card: dict[str, Any], small_dataset: Dataset, tmp_path: Path
) -> None:
    dataset = Path(shutil.copytree(small_dataset.path, tmp_path / HOSTILE.replace("/", "|")))
    said = json.loads((dataset / "dataset.json").read_text(encoding="utf-8"))
    said["surfaces"][0] = HOSTILE
    said["refusals"] = [
        {"reason": HOSTILE, "count": 1, "file": HOSTILE, "line": 2, "example": "<img src=x>\x00"}
    ]
    said["notes"] = [{"what": "推荐 <b>", "count": 3}]
    write_json(dataset / "dataset.json", said)
    card["slices"]["surface"][HOSTILE] = card["slices"]["surface"].pop(said["surfaces"][1])
    card["baselines"][HOSTILE] = card["baselines"].pop("random")
    card["masked_objectives"] = {HOSTILE: HOSTILE}
    write_json(run / "evaluation.json", card)
    hostile_run = run.rename(tmp_path / "<img src=x onerror=alert(1)> run")
    page = read(write_report(hostile_run, dataset_path=dataset))
    assert not page.tags() & {"script", "img", "b"}
    assert not [name for _, found in page.elements for name in found if name.startswith("on")]
    assert HOSTILE in page.text
    assert "“<img src=x onerror=alert(1)> run”" in page.text
    assert page.row("推荐 <b>", "3")


def test_a_full_disk_leaves_the_old_report(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (run / "report.html").write_text("old", encoding="utf-8")

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError, match="disk is full"):
        write_report(run)
    assert (run / "report.html").read_text(encoding="utf-8") == "old"
    assert not list(run.glob(".report.html*"))


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="not a trained run"):
        write_report(tmp_path)


@pytest.mark.parametrize(
    ("text", "said"),
    [('{"objectives": {', "is damaged"), ('{"objectives": {}}', "lacks slate"), ("[]", "lacks")],
)
def test_a_damaged_evaluation_is_refused(run: Path, text: str, said: str) -> None:
    (run / "evaluation.json").write_text(text, encoding="utf-8")
    with pytest.raises(RunError, match=said) as caught:
        write_report(run)
    assert "skipwise evaluate" in str(caught.value)


def test_a_damaged_progress_file_is_refused_and_an_absent_one_said(run: Path) -> None:
    (run / "progress.jsonl").write_text('{"phase": "sear', encoding="utf-8")
    with pytest.raises(RunError, match="is damaged"):
        write_report(run)
    (run / "progress.jsonl").unlink()
    page = read(write_report(run))
    assert "No learning curves" in page.text
    assert "chart-learning" not in page.attributes("id")


def test_figures_of_an_earlier_training_are_marked(
    run: Path, card: dict[str, Any], page: Page
) -> None:
    warning = "measured on an earlier training of this run"
    assert warning not in page.text
    card["run"]["window"]["last_day"] = "2001-01-01"
    write_json(run / "evaluation.json", card)
    assert warning in read(write_report(run)).text


def test_a_run_without_curves_messages_or_pairs_says_so(
    small_dataset: Dataset, tmp_path: Path
) -> None:
    plainest = {
        "passes_at_most": 1, "refit": False, "threads": 1, "device": "cpu",
        "model": {
            "inputs": {"use_feedback": False},
            "encoder": {"two_queries": False, "pair_biases": False},
            "objectives": {"relation": "independent", "watch": "log"},
        },
    }  # fmt: skip
    train(small_dataset, tmp_path / "run", apply_settings(preset("tiny"), plainest))
    page = read(write_report(tmp_path / "run"))
    for said in (
        "This run has no watch curves: its watch time is predicted by the head 'log'",
        "objectives do not listen to each other",
        "no pair biases to show",
        "does not see how past events ended",
    ):
        assert said in page.text
    ids = set(page.attributes("id"))
    assert "chart-attention" in ids
    assert not {"chart-mean-curve", "chart-examples", "chart-relations", "chart-pair-biases"} & ids
