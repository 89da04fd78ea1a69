"""What is read out of the quota headers that registries send."""

from __future__ import annotations

import pytest

from service.model.budget import Quota
from service.registry.quota import HOLD_SECONDS, left_of_quota, told_quota


@pytest.mark.parametrize(
    ("headers", "rate"),
    [
        ({}, None),
        ({"ratelimit-limit": "100;w=21600", "ratelimit-remaining": "98;w=21600"}, None),
        ({"ratelimit-limit": "100;w=21600", "ratelimit-remaining": "3;w=21600"}, 1.0),
        ({"ratelimit-limit": "6000;w=60", "ratelimit-remaining": "300;w=60"}, 50.0),
        ({"ratelimit-limit": "6000;w=60", "ratelimit-remaining": "0;w=60"}, 1.0),
        (
            {"ratelimit-limit": "1000", "ratelimit-remaining": "90", "ratelimit-reset": "30"},
            3.0,
        ),
        ({"ratelimit-limit": "1000", "ratelimit-remaining": "90"}, None),
        (
            {
                "x-ratelimit-limit": "5000",
                "x-ratelimit-remaining": "100",
                "x-ratelimit-reset": "20",
            },
            5.0,
        ),
        (
            {  # GitHub: the reset is a moment, not a time
                "x-ratelimit-limit": "5000",
                "x-ratelimit-remaining": "100",
                "x-ratelimit-reset": "1700000000",
            },
            None,
        ),
        ({"ratelimit-limit": "x", "ratelimit-remaining": "1;w=60"}, None),
        ({"ratelimit-limit": "100", "ratelimit-remaining": "-1"}, None),
        ({"ratelimit-limit": "100;w=0", "ratelimit-remaining": "1;w=0"}, None),
        ({"ratelimit-limit": "9" * 400, "ratelimit-remaining": "1" * 400}, None),
    ],
)
def test_rest_of_a_quota(headers: dict[str, str], rate: float | None) -> None:
    assert left_of_quota(headers) == (None if rate is None else (rate, HOLD_SECONDS))


@pytest.mark.parametrize(
    ("headers", "told"),
    [
        ({}, None),
        ({"ratelimit-remaining": "x"}, None),
        (
            {"ratelimit-limit": "100;w=21600", "ratelimit-remaining": "98;w=21600"},
            Quota(98, 100, 21600.0),
        ),
        ({"ratelimit-remaining": "0"}, Quota(0)),
        (
            {"x-ratelimit-limit": "5000", "x-ratelimit-remaining": "10", "x-ratelimit-reset": "20"},
            Quota(10, 5000, 20.0),
        ),
        (
            {"x-ratelimit-remaining": "10", "x-ratelimit-reset": "1700000000"},
            Quota(10),
        ),
    ],
)
def test_quota_is_told_as_it_was_written(headers: dict[str, str], told: Quota | None) -> None:
    assert told_quota(headers) == told
