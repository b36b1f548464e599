"""What `train` refuses before it reads anything."""

import pytest
from typer.testing import CliRunner

from skipwise.cli.main import app


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--follow", "log", "--until", "2022-05-01"), "--until is said beside --follow"),
        (("--follow", "log", "--preset", "tiny"), "--preset is said beside --follow"),
        (("--follow", "log", "--resume", "--replace"), "--resume, --replace is said beside"),
        (("--once",), "--once is said without --follow"),
    ],
)
def test_an_option_that_following_or_training_would_not_heed_is_refused(
    words: tuple[str, ...], told: str
) -> None:
    done = CliRunner().invoke(app, ["train", "nowhere", "--out", "x", *words])
    assert done.exit_code == 2
    assert told in " ".join(done.output.split())
