"""Tests of minutes each, which the long form alone runs: `SKIPWISE_LONG=1 make test`.

What they try is tried by quicker ones too, of a part at a time; these try the whole.
"""

import os

import pytest

long_form = pytest.mark.skipif(
    not os.environ.get("SKIPWISE_LONG"), reason="takes minutes; SKIPWISE_LONG=1 runs it"
)
