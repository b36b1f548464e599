"""What every test of this folder may use."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import ibis
import pytest
from ibis.backends.duckdb import Backend

from tests.events.kuairand_logs import LOG_HEADER, WriteLog


@pytest.fixture
def connection() -> Iterator[Backend]:
    engine = ibis.duckdb.connect(threads=1)
    yield engine
    engine.disconnect()


@pytest.fixture
def write_log(tmp_path: Path) -> WriteLog:
    """Write the rows of a KuaiRand log; gives the folder."""

    def write(
        rows: Sequence[str],
        *,
        header: str = LOG_HEADER,
        name: str = "log_standard_4_22_to_5_08_pure.csv",
    ) -> Path:
        (tmp_path / "data").mkdir(exist_ok=True)
        text = "\n".join([header, *rows]) + "\n"
        (tmp_path / "data" / name).write_text(text, encoding="utf-8")
        return tmp_path

    return write
