"""Codes of many names at once are those of a dictionary."""

import numpy as np
from numpy.typing import NDArray

from skipwise.labels.watch import LabelConfig
from skipwise.serving.catalogue import STRANGERS, LiveCatalogue, VideoFacts
from skipwise.serving.code_table import CodeTable

Codes = NDArray[np.int64]


def _filled(names: Codes) -> CodeTable:
    table = CodeTable()
    for code, name in enumerate(names.tolist()):
        table.put(name, code, lambda held=code: names[: held + 1])  # type: ignore[misc]
    return table


def test_what_is_found_is_what_was_put_and_few_are_left_to_the_dictionary() -> None:
    names = np.random.default_rng(0).integers(-(2**63), 2**63, 5000)
    found = _filled(names).find(names)
    assert ((found == np.arange(5000)) | (found == -1)).all()
    assert (found == -1).mean() < 0.15


def test_names_that_want_the_same_places_are_never_taken_for_each_other() -> None:
    names = np.array([1 << 20, 2 << 20, 3 << 20, 4 << 20])  # first place 0; second one 0 as well
    found = _filled(names).find(names)
    assert found.tolist() == [0, -1, -1, -1]


def test_nothing_is_found_of_what_was_not_put() -> None:
    names = np.arange(1, 600)
    assert (_filled(names).find(np.array([0, 600, -1, 2**62])) == -1).all()


def test_a_catalogue_gives_many_codes_as_it_gives_one() -> None:
    ids = [f"v{place}" for place in range(3000)]
    catalogue = LiveCatalogue(LabelConfig(), [VideoFacts(video_id=each) for each in ids])
    asked = [*ids[::7], "never seen", *ids[:3], "nor this"]
    one_by_one = [catalogue.code(each) for each in asked]
    assert catalogue.codes_of(asked).tolist() == one_by_one
    assert one_by_one[0] == STRANGERS
    names = catalogue.name[one_by_one].copy()
    known = np.array(one_by_one) >= STRANGERS
    assert catalogue.codes(names[known]).tolist() == np.array(one_by_one)[known].tolist()
