"""Where a gateway asks for an image: the order of places, and what is left behind by an answer that fails."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import pytest

from service.model.digest import Digest
from service.model.gateway import GatewayConfig
from service.replication.gateway.places import Order, Places
from service.replication.gateway.steady import StoreGate

SOURCE, COPY, SHARED = ("old", "team/a"), ("new", "team/a"), ("new", "all/one")
DIGEST = Digest.parse(f"sha256:{'a' * 64}")


class Failing:
    """A locator whose answer nobody has foreseen."""

    def __init__(self, error: Exception) -> None:
        self.error: Exception | None = error

    def locate(self, *_: object, **__: object) -> list[object]:
        """Fail, or know of nothing."""
        if self.error is not None:
            raise self.error
        return []


def _places(locator: object) -> Places:
    nothing = cast("Any", None)
    make = cast("Callable[..., Places]", Places)
    return make(GatewayConfig(()), locator, nothing, nothing, StoreGate(), nothing, "local")


def test_a_question_that_fails_in_a_way_of_its_own_leaves_nothing_behind() -> None:
    locator = Failing(ValueError("unforeseen"))
    places = _places(locator)
    for number in range(3):
        with pytest.raises(ValueError, match="unforeseen"):
            places.find(SOURCE, f"v{number}", DIGEST)
    assert places._flights == {}
    locator.error = None
    assert places.find(SOURCE, "v0", DIGEST).known
    assert places._flights == {}


def test_what_the_source_has_not_is_not_asked_for_where_others_images_may_lie() -> None:
    asked = []
    order = Order(SOURCE, (SOURCE, SHARED, COPY), (SHARED,))
    for place in order:
        asked.append(place)
        order.has_not(place)
    assert asked == [SOURCE, COPY]


def test_a_copy_that_has_it_not_or_a_silent_source_leaves_all_others_to_be_asked() -> None:
    order = Order(SOURCE, (COPY, SOURCE, SHARED), (SHARED,))
    assert next(order) == COPY
    order.has_not(COPY)
    assert list(order) == [SOURCE, SHARED]
