"""Small KuaiRand logs written by hand."""

from collections.abc import Callable
from pathlib import Path

LOG_HEADER = (
    "user_id,video_id,date,hourmin,time_ms,is_click,is_like,is_follow,is_comment,is_forward,"
    "is_hate,long_view,play_time_ms,duration_ms,profile_stay_time,comment_stay_time,"
    "is_profile_enter,is_rand,tab"
)
MIDDAY_MS = 1_650_859_200_000
"""2022-04-25 12:00:00 in Asia/Shanghai."""

WriteLog = Callable[..., Path]


def log_row(**changes: object) -> str:
    """One line of a log, in the official order of columns."""
    values: dict[str, object] = dict.fromkeys(LOG_HEADER.split(","), 0)
    values |= {"user_id": 7, "video_id": 70, "date": 20220425, "time_ms": MIDDAY_MS}
    values |= {"play_time_ms": 4000, "duration_ms": 20000, "tab": 1}
    return ",".join(str(value) for value in (values | changes).values())


def good_rows(num_rows: int) -> list[str]:
    """Rows a minute apart, all of them fine."""
    return [log_row(user_id=row % 5, time_ms=MIDDAY_MS + 60_000 * row) for row in range(num_rows)]
