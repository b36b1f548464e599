"""Settings: what is taken, what is refused, and what the refusal says."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest

from skipwise.errors import SettingError
from skipwise.settings import (
    apply_settings,
    check_choice,
    check_setting,
    named_within,
    nearest,
    parse_overrides,
    read_settings_file,
    settings_to_dict,
)
from skipwise.training.settings import TrainSettings, preset, size_for


@dataclass(frozen=True, kw_only=True, slots=True)
class Engine:
    """The inner group."""

    cylinders: int = 4
    power: float = 50.0

    def __post_init__(self) -> None:
        check_setting("engine.cylinders", self.cylinders, at_least=1, at_most=16)


@dataclass(frozen=True, kw_only=True, slots=True)
class Car:
    """One setting of every type."""

    doors: int = 3
    length_m: float = 4.0
    name: str = "none yet"
    electric: bool = False
    range_km: float | None = None
    fuel: Literal["petrol", "diesel"] = "petrol"
    gears: tuple[float, ...] = (3.5, 2.0)
    engine: Engine = field(default_factory=Engine)


def test_every_type_is_taken_from_words() -> None:
    words = [
        "doors=5", "length_m=4", "name=beetle", "electric=true", "range_km=12.5", "fuel=diesel",
        "gears=[4, 2.5, 1]", "engine.cylinders=6", "engine.power=70.5",
    ]  # fmt: skip
    car = apply_settings(Car(), parse_overrides(words))
    assert car == Car(
        doors=5, length_m=4.0, name="beetle", electric=True, range_km=12.5, fuel="diesel",
        gears=(4.0, 2.5, 1.0), engine=Engine(cylinders=6, power=70.5),
    )  # fmt: skip
    assert isinstance(car.length_m, float)
    assert all(isinstance(gear, float) for gear in car.gears)


def test_what_is_not_named_stays_as_it_was() -> None:
    start = Car(doors=5, engine=Engine(cylinders=8, power=90.0))
    assert apply_settings(start, {}) == start
    changed = apply_settings(start, {"engine": {"power": 10.0}})
    assert changed.engine == Engine(cylinders=8, power=10.0)
    assert changed.doors == 5
    assert start.engine.power == 90.0


def test_an_optional_setting_takes_none_and_its_type_and_nothing_else() -> None:
    assert apply_settings(Car(range_km=3.0), parse_overrides(["range_km=none"])).range_km is None
    assert apply_settings(Car(), parse_overrides(["range_km=3"])).range_km == 3.0
    with pytest.raises(SettingError, match="must be float"):
        apply_settings(Car(), parse_overrides(["range_km=far"]))


@pytest.mark.parametrize(
    ("word", "says"),
    [
        (
            "door=5",
            r"^door is not a setting; this level has doors, .*Did you mean 'doors'\? Name one of",
        ),
        (
            "engine.cylinder=5",
            r"^engine\.cylinder is not .*engine has .*Did you mean 'cylinders'\?",
        ),
        ("doors=2.5", r"^doors = 2\.5 is of type float, must be int\. Change doors\.$"),
        ("doors=true", r"^doors = True is of type bool, must be int\. Change doors\.$"),
        ("length_m=true", r"^length_m = True is of type bool, must be float\."),
        ("length_m=long", r"^length_m = 'long' is of type str, must be float\."),
        ("name=3", r"^name = 3 is of type int, must be str\."),
        ("electric=1", r"^electric = 1 is of type int, must be bool\."),
        (
            "fuel=diesl",
            r"^fuel = 'diesl', must be one of petrol, diesel\. Did you mean 'diesel'\? Change fuel",
        ),
        ("gears=2", r"^gears = 2 is of type int, must be tuple\[float, \.\.\.\]\."),
        ('gears=[1, "high"]', r"^gears\[1\] = 'high' is of type str, must be float\."),
        ("engine=6", r"^engine is a group of settings, not one value\. Write engine\.KEY=VALUE\."),
        ("doors.left=1", r"^doors = \{'left': 1\} is of type dict, must be int\."),
        ("engine.cylinders=99", r"^engine\.cylinders = 99, must be >= 1 and <= 16\. Change"),
    ],
)
def test_a_wrong_setting_is_refused_in_three_parts(word: str, says: str) -> None:
    with pytest.raises(SettingError, match=says):
        apply_settings(Car(), parse_overrides([word]))


def test_a_key_like_nothing_gets_no_suggestion() -> None:
    with pytest.raises(SettingError) as refused:
        apply_settings(Car(), {"zzzzz": 1})
    assert "Did you mean" not in str(refused.value)
    assert "doors, length_m" in str(refused.value)


def test_code_is_text_and_is_never_run() -> None:
    assert parse_overrides(["name=__import__('os')"]) == {"name": "__import__('os')"}
    with pytest.raises(SettingError, match="must be int"):
        apply_settings(Car(), parse_overrides(["doors=1+1"]))


def test_blanks_around_a_key_and_a_value_are_no_part_of_them_and_those_inside_are() -> None:
    words = ["doors = 5", " engine.power =70.5 ", "name= two words "]
    assert parse_overrides(words) == {"doors": 5, "engine": {"power": 70.5}, "name": "two words"}


def test_a_value_may_hold_the_equals_sign() -> None:
    assert parse_overrides(["name=a=b"]) == {"name": "a=b"}


@pytest.mark.parametrize("word", ["doors", "=5", " =5", ""])
def test_a_word_that_sets_nothing_is_refused(word: str) -> None:
    with pytest.raises(SettingError, match=r"is not an override; it must read key=value"):
        parse_overrides([word])


def test_a_key_is_either_a_value_or_a_group() -> None:
    assert parse_overrides(["engine.power=1", "engine.cylinders=2"]) == {
        "engine": {"power": 1, "cylinders": 2}
    }
    with pytest.raises(SettingError, match=r"both as a value and as a group\. Keep one"):
        parse_overrides(["engine=1", "engine.power=2"])


def test_the_last_word_wins() -> None:
    assert parse_overrides(["doors=1", "doors=2"]) == {"doors": 2}


def test_a_toml_file_gives_nested_values(tmp_path: Path) -> None:
    file = tmp_path / "car.toml"
    file.write_text('doors = 5\nfuel = "diesel"\n[engine]\npower = 1\n', encoding="utf-8")
    car = apply_settings(Car(), read_settings_file(file))
    assert (car.doors, car.fuel, car.engine) == (5, "diesel", Engine(power=1.0))


def test_a_file_that_cannot_be_read_says_why(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match=r"does not exist; --config needs a TOML file\. Check"):
        read_settings_file(tmp_path / "none.toml")
    (tmp_path / "bad.toml").write_text("doors = = 5\n", encoding="utf-8")
    with pytest.raises(SettingError, match=r"cannot be read as TOML: .*line 1.*Mend that line"):
        read_settings_file(tmp_path / "bad.toml")
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(SettingError, match="cannot be read as TOML"):
        read_settings_file(tmp_path / "binary.toml")


@pytest.mark.parametrize(
    ("value", "bounds", "holds"),
    [
        (1.0, {"above": 1.0}, False),
        (1.0, {"at_least": 1.0}, True),
        (1.0, {"below": 1.0}, False),
        (1.0, {"at_most": 1.0}, True),
        (0.0, {"above": -1, "below": 1}, True),
        (float("nan"), {"above": 0}, False),
        (float("nan"), {}, False),
        (float("inf"), {"above": 0}, True),
    ],
)
def test_bounds_hold_or_are_named(value: float, bounds: dict[str, Any], holds: bool) -> None:
    if holds:
        check_setting("x", value, **bounds)
    else:
        with pytest.raises(SettingError, match=r"^x = "):
            check_setting("x", value, **bounds)


def test_the_nearest_word_is_named_only_when_it_is_near() -> None:
    assert nearest("daly", ["daily", "window"]) == " Did you mean 'daily'?"
    assert nearest("qqqq", ["daily", "window"]) == ""
    check_choice("mode", "daily", ["daily", "window"])
    with pytest.raises(SettingError, match="mode = 'weekly', must be one of daily, window"):
        check_choice("mode", "weekly", iter(["daily", "window"]))


@pytest.mark.parametrize("size", ["tiny", "small", "base", "large"])
def test_every_preset_survives_its_way_through_plain_values(size: str) -> None:
    """What a checkpoint keeps of the settings gives the same settings back."""
    settings = preset(size)
    assert apply_settings(TrainSettings(), settings_to_dict(settings)) == settings


def test_the_size_grows_with_the_events() -> None:
    assert [size_for(number) for number in (1, 4_999_999, 5_000_000, 99_999_999, 10**8)] == [
        "small", "small", "base", "base", "large",
    ]  # fmt: skip
    assert not preset("small").model.inputs.ids
    assert preset("base").model.inputs.ids


def test_an_unknown_preset_is_refused_with_the_nearest() -> None:
    with pytest.raises(SettingError, match=r"preset = 'smal', .*Did you mean 'small'\?"):
        preset("smal")


@pytest.mark.parametrize(
    ("word", "says"),
    [
        ("optimizer.learning_rat=1", "Did you mean 'learning_rate'"),
        ("model.encoder.bloks=2", "Did you mean 'blocks'"),
        ("model.objectives.relation=curved", "Did you mean 'curve'"),
        ("model.width=30", "must be"),
        ("loss.glance=-1", "loss.glance = -1, must be >= 0"),
    ],
)
def test_a_training_setting_is_refused_wherever_it_lies(word: str, says: str) -> None:
    words = [word, "model.encoder.heads=4"] if word.startswith("model.width") else [word]
    with pytest.raises(SettingError, match=says if "width" not in word else "not a multiple"):
        apply_settings(preset("small"), parse_overrides(words))


@pytest.mark.parametrize(
    ("word", "meant"),
    [
        ("motor.car.engine.power=3", "engine.power"),  # groups around it that are not there
        ("power=3", "engine.power"),  # its group left out
        ("powr=3", "engine.power"),
        ("dors=3", "doors"),
        ("engine.powr=3", "power"),
    ],
)
def test_the_nearest_key_is_found_in_the_groups_too(word: str, meant: str) -> None:
    with pytest.raises(SettingError, match=f"Did you mean '{meant}'"):
        apply_settings(Car(), parse_overrides([word]))


def test_an_owner_that_knows_part_of_a_name_is_quoted_by_the_whole_of_it() -> None:
    """The encoder says `encoder.dropout`; it lies in the model, or wherever it is put."""
    with pytest.raises(SettingError) as refused:
        apply_settings(preset("small"), parse_overrides(["model.encoder.dropout=2"]))
    name = "model.encoder.dropout"
    assert str(refused.value) == f"{name} = 2, must be >= 0 and < 1. Change {name}."
    assert refused.value.name == name


def test_a_refusal_of_something_else_keeps_its_words() -> None:
    words = "b.x = 1 with a.x = 2, must be equal. Change one."
    for name in (None, "b.y"):
        with pytest.raises(SettingError) as refused, named_within("c.", ["x"]):
            raise SettingError(words, name=name)
        assert str(refused.value) == words
    with pytest.raises(SettingError) as refused, named_within("c.", ["x"]):
        raise SettingError(words, name="b.x")
    assert str(refused.value) == words.replace("b.x", "c.x")
