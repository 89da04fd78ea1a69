"""Names of a gateway: whole parts, the longest prefix, and no way out of a repository's grammar."""

from __future__ import annotations

import pytest

from service.model.gateway import GatewayConfig, NameRule

CONFIG = GatewayConfig(
    (
        NameRule("old"),
        NameRule("hub", "hub", "library"),
        NameRule("deep", "hub/deep"),
        NameRule("one", "one/app", "other/name"),
    ),
    anonymous=("public/**", "hub/nginx"),
)


@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("team/app", ("old", "team/app")),
        ("hub/nginx", ("hub", "library/nginx")),
        ("hub", ("hub", "library")),
        ("hubs/nginx", ("old", "hubs/nginx")),
        ("hub/deep/x", ("deep", "x")),
        ("hub/deep", ("hub", "library/deep")),  # of deep there is nothing left to name
        ("one/app", ("one", "other/name")),
        ("one/app/x", ("one", "other/name/x")),
        ("a" * 300, None),
    ],
)
def test_effect_gateway_names(name: str, place: tuple[str, str] | None) -> None:
    assert CONFIG.place_of(name) == place


def test_a_name_under_no_prefix_is_not_served() -> None:
    assert GatewayConfig((NameRule("hub", "hub"),)).place_of("team/app") is None


def test_effect_gateway_anonymous() -> None:
    assert CONFIG.is_anonymous("public/a/b")
    assert CONFIG.is_anonymous("hub/nginx")
    assert not CONFIG.is_anonymous("hub/nginx/x")
    assert not GatewayConfig((NameRule("old"),)).is_anonymous("public/a")
