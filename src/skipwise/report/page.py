"""How does a RUN become one page that opens anywhere?

    RUN, DATASET  ->  write_report  ->  RUN/report.html

- One file: no script, nothing fetched from elsewhere, and a policy in it that forbids both.
- The same run, evaluation and dataset give the same bytes.
- Everything that came from data is escaped by the template.

Reads every section; is read by the command line.
"""

from pathlib import Path

from skipwise.progress import SILENT, Progress
from skipwise.report.attention_section import attention_section
from skipwise.report.baselines_section import baselines_section
from skipwise.report.blocks import Section
from skipwise.report.calibration_section import calibration_section
from skipwise.report.curves_section import curves_section
from skipwise.report.data_section import data_section
from skipwise.report.findings import Findings, gather
from skipwise.report.names import plain
from skipwise.report.readings import CURVE_AT_S, Readings, rows_of, sample, span_of, take_readings
from skipwise.report.relations_section import relations_section
from skipwise.report.render import render_page
from skipwise.report.retrieval_section import retrieval_section
from skipwise.report.slate_section import slate_section
from skipwise.report.summary_section import summary_section
from skipwise.report.training_section import training_section
from skipwise.storage import replace_file

REPORT_FILE = "report.html"


def write_report(
    run_path: Path,
    out: Path | None = None,
    *,
    dataset_path: Path | None = None,
    progress: Progress = SILENT,
) -> Path:
    """Write the report of a run.

    Args:
        run_path: The RUN folder; `evaluation.json` in it may be absent.
        out: The file to write; None = `report.html` in the RUN.
        dataset_path: The DATASET; None = where it was when the run was trained, and if it is no
            longer there, what needs it says so.
        progress: Who is told how far it is.

    Returns:
        The file written.

    Raises:
        RunError: The run or its evaluation is missing or damaged.
        DatasetError: `dataset_path` was given and cannot be read.
        StorageError: The disk is full or the folder cannot be written.
    """
    findings = gather(run_path, dataset_path)
    page = _render(findings, _sections(findings, progress))
    place = run_path / REPORT_FILE if out is None else out
    with replace_file(place) as aside:
        aside.write_text(page, encoding="utf-8", errors="backslashreplace", newline="\n")
    return place


def _sections(findings: Findings, progress: Progress) -> list[Section]:
    readings = _readings(findings, progress)
    with progress.task("report", total=10, unit="sections") as task:
        sections = []
        for make in (
            summary_section,
            data_section,
            training_section,
            baselines_section,
            calibration_section,
            slate_section,
            retrieval_section,
            lambda found: curves_section(found, readings),
            lambda found: attention_section(found, readings),
            relations_section,
        ):
            sections.append(make(findings))
            task.advance(note=sections[-1].title)
    return sections


def _readings(findings: Findings, progress: Progress) -> Readings | None:
    dataset = findings.dataset
    if dataset is None:
        return None
    rows = sample(rows_of(dataset, span_of(findings, dataset)))
    return take_readings(findings, dataset, rows, CURVE_AT_S, progress=progress)


def _render(findings: Findings, sections: list[Section]) -> str:
    name = plain(findings.run.path.resolve().name)
    return render_page(f"Skipwise report: {name}", f"Report on the run “{name}”", sections)
