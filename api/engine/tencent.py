"""A whole Tencent CCR account and a TCR instance, as the registries of a move (peers-cli.md 2.1)."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from typing import Any

from service.errors import InvalidConfiguration
from service.model.rule_check import suggest

PREFIXES = {
    **dict.fromkeys(
        (
            "ap-guangzhou",
            "ap-shanghai",
            "ap-nanjing",
            "ap-beijing",
            "ap-shenzhen",
            "ap-chongqing",
            "ap-chengdu",
            "ap-tianjin",
        ),
        "ccr",
    ),
    "ap-hongkong": "hkccr",
    "ap-shenzhen-fsi": "szjrccr",
    "ap-shanghai-fsi": "shjrccr",
    "ap-beijing-fsi": "bjjrccr",
    "ap-singapore": "sgccr",
    "ap-seoul": "krccr",
    "ap-tokyo": "jpccr",
    "ap-mumbai": "inccr",
    "ap-bangkok": "thccr",
    "na-toronto": "caccr",
    "na-siliconvalley": "uswccr",
    "na-ashburn": "useccr",
    "eu-frankfurt": "deccr",
    "eu-moscow": "ruccr",
}
"""What the host of CCR begins with, by Tencent's region."""

CCR_SECRET, TCR_SECRET = "TRANSSHIP_SECRET_CCR", "TRANSSHIP_SECRET_TCR"
"""The variables of this process alone that its workers read the secrets from."""


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A SecretId and its SecretKey."""

    identity: str
    secret: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Tencent:
    """Both ends. `user` and `password` are the personal registry's login: the API gives none for it."""

    user: str
    password: str = field(repr=False)
    ccr_key: ApiKey
    tcr_key: ApiKey
    ccr_url: str
    tcr_url: str
    ccr_api_url: str | None = None
    tcr_api_url: str | None = None


def ccr_url(region: str) -> str:
    """Return the address of CCR in a region of Tencent's. Raises InvalidConfiguration."""
    prefix = PREFIXES.get(region)
    if prefix is None:
        raise InvalidConfiguration(
            f"CCR is not known to be in {region[:40]!r}",
            field="--ccr-region",
            hint=suggest(region, PREFIXES) or "give its address as --ccr-url",
        )
    return f"https://{prefix}.ccs.tencentyun.com"


def registries(ends: Tencent) -> list[dict[str, Any]]:
    """Return the registries as documents, and have the secrets in this process's environment."""
    os.environ[CCR_SECRET] = json.dumps(
        {
            "password": ends.password,
            "secret_id": ends.ccr_key.identity,
            "secret_key": ends.ccr_key.secret,
        }
    )
    os.environ[TCR_SECRET] = ends.tcr_key.secret
    return [
        {
            "name": "ccr",
            "url": ends.ccr_url,
            "provider": "ccr",
            **({"api_url": ends.ccr_api_url} if ends.ccr_api_url else {}),
            "credentials": {"username": ends.user, "password_env": CCR_SECRET},
        },
        {
            "name": "tcr",
            "url": ends.tcr_url,
            "provider": "tcr",
            **({"api_url": ends.tcr_api_url} if ends.tcr_api_url else {}),
            "credentials": {"username": ends.tcr_key.identity, "password_env": TCR_SECRET},
        },
    ]
