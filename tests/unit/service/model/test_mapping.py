"""Templates for names at the destination."""

from __future__ import annotations

import re

import pytest

from service.errors import InvalidConfiguration, InvalidReference
from service.model.mapping import (
    keeps_repository,
    keeps_tag,
    placeholders,
    render,
    render_repository,
    render_tag,
)

SOURCE = {
    "host": "registry.example",
    "registry": "east",
    "repository": "team/app/web",
    "tag": "v1.2",
    "digest": "sha256:" + "ab" * 32,
}


@pytest.mark.parametrize(
    ("template", "result"),
    [
        ("{repository}", "team/app/web"),
        ("mirror/{repository[1:]}", "mirror/app/web"),
        ("{repository[0:]}", "team/app/web"),
        ("{host}/{repository}", "registry.example/team/app/web"),
        ("{registry}/{namespace}/{name}", "east/team/app/web"),
        ("{name}", "web"),
        ("{tag}-{digest}", "v1.2-" + "ab" * 32),
        ("plain", "plain"),
    ],
)
def test_placeholders_are_filled_in(template: str, result: str) -> None:
    assert render(template, **SOURCE) == result


@pytest.mark.parametrize(
    ("template", "word"),
    [
        ("", "empty"),
        ("{repo}", "unknown placeholder {repo}"),
        ("{repository[:1]}", "unknown placeholder"),
        ("{repository[x:]}", "unknown placeholder"),
        ("{repository", "unmatched '{'"),
        ("repository}", "unmatched '}'"),
        ("{}", "unknown placeholder {}"),
        ("{repository[3:]}", "gives nothing"),
        ("a" * 513, "longer"),
    ],
)
def test_template_that_cannot_be_filled_in_is_refused(template: str, word: str) -> None:
    with pytest.raises(InvalidConfiguration, match=re.escape(word)):
        render(template, **SOURCE)


def test_namespace_of_a_repository_without_one_is_refused() -> None:
    with pytest.raises(InvalidConfiguration, match=r"gives nothing for \{namespace\} of app:v1"):
        render("{namespace}/x", host="h", registry="r", repository="app", tag="v1")


def test_unknown_digest_is_refused() -> None:
    with pytest.raises(InvalidConfiguration, match="digest"):
        render("{digest}", host="h", registry="r", repository="app", tag="v1")


def test_result_outside_the_grammar_is_refused() -> None:
    with pytest.raises(InvalidReference):
        render_repository("UP/{name}", **SOURCE)
    with pytest.raises(InvalidReference):
        render_repository("/{name}", **SOURCE)
    with pytest.raises(InvalidReference):
        render_tag("{repository}", **SOURCE)


def test_templates_that_change_nothing_are_known() -> None:
    assert keeps_repository("{repository}")
    assert keeps_repository("{repository[0:]}")
    assert keeps_repository("{namespace}/{name}")
    assert not keeps_repository("{repository[1:]}")
    assert not keeps_repository("x/{repository}")
    assert keeps_tag("{tag}")
    assert not keeps_tag("v{tag}")


def test_placeholders_are_listed() -> None:
    assert placeholders("a/{name}:{tag}") == {"name", "tag"}
