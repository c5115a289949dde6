"""The name that was meant."""

from __future__ import annotations

import pytest

from paragon_archs.utils.nearest import did_you_mean, nearest

NAMES = ["Adam", "AdamW", "SGD"]


@pytest.mark.parametrize(
    ("name", "count", "close"),
    [
        ("Adma", 1, ["Adam"]),
        ("AdamV", 2, ["Adam", "AdamW"]),
        ("sgd", 1, ["SGD"]),
        ("Lion", 3, []),
    ],
)
def test_the_closest_come_first(name: str, count: int, close: list[str]) -> None:
    assert nearest(name, NAMES, count) == close


def test_the_hint_is_a_sentence() -> None:
    assert did_you_mean("Adma", iter(NAMES)) == "Did you mean Adam?"
    assert did_you_mean("AdamV", NAMES, count=2) == "Did you mean Adam or AdamW?"
    assert did_you_mean("Lion", NAMES, "See the table.") == "See the table."
