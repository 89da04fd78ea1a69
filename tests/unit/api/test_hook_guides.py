"""What `registries hook` prints and the how-to page says cover every provider."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from api.cli.hook_guides import GUIDES, likely_provider
from service.model.events.parsing import PROVIDERS

PAGE = Path(__file__).parents[3] / "docs/how-to/events.md"


def test_every_provider_has_a_guide_and_a_section() -> None:
    sections = re.findall(r"^### (\S+)$", PAGE.read_text("utf-8"), re.MULTILINE)

    assert set(GUIDES) == set(PROVIDERS)
    assert set(sections) == set(PROVIDERS) - {"github"}, "github is told with ghcr"


@pytest.mark.parametrize("provider", sorted(GUIDES))
def test_guide_names_address_and_secret_where_they_belong(provider: str) -> None:
    guide = GUIDES[provider]
    steps = guide.steps.format(url="https://t.example/hooks/x", secret="tsh_s")

    assert "https://t.example/hooks/x" in steps
    assert ("tsh_s" in steps) != guide.in_address


@pytest.mark.parametrize(
    ("url", "provider"),
    [
        ("https://registry-1.docker.io", "dockerhub"),
        ("https://docker.io", "dockerhub"),
        ("https://ghcr.io", "ghcr"),
        ("https://123456789012.dkr.ecr.us-west-2.amazonaws.com", "ecr"),
        ("https://x.azurecr.io:443", "acr"),
        ("https://us-east1-docker.pkg.dev", "gar"),
        ("https://eu.gcr.io", "gar"),
        ("https://registry.cn-hangzhou.aliyuncs.com", "aliyun-acr"),
        ("https://quay.io", "quay"),
        ("https://demo.tencentcloudcr.com", "tcr"),
        ("https://acme.jfrog.io", "jfrog"),
        ("https://evilquay.io", "distribution"),
        ("http://127.0.0.1:5000", "distribution"),
    ],
)
def test_url_suggests_the_provider(url: str, provider: str) -> None:
    assert likely_provider(url) == provider
