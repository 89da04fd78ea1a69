"""The report's page: everything of it is in one file, is escaped, and says what the report says."""

from __future__ import annotations

from html.parser import HTMLParser
from typing import Any

import pytest

from api.reports.page import duration, page
from tests.unit.api.sample_report import failure, failure_class, sample

NASTY = "<script>alert(1)</script>\"'><img src=x onerror=alert(1)>\u202egpj.exe\x1b[31m{{ 7 * 7 }}"


class Reading(HTMLParser):
    """The tags of a page with their attributes, and its text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.open: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in {"meta", "br"}:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.text += data


def read(**changes: Any) -> Reading:
    return Reading(page(sample(**changes)))


def test_page_says_what_the_report_says() -> None:
    text = " ".join(read().text.split())

    for said in (
        "ccr to tcr",
        "partial",
        "3 h 20 min of work",
        "copied98 412",
        "871.9 GB",
        "1.1 TB unique of the 4.4 TB that the images count",
        "75 % need not move",
        "wave-2",
        "gone: 380 copies",
        "To do: mend it, then run it again.",
        "2 tags of 2 repositories at tcr",
        "and 377 more",
        "wave-2-failures-tcr",
        "rule wave-2: nothing matches team9/**",
        "ed25519:3f3f",
        "ccr → tcr",
        "refused the destination is not as the source was frozen",
        "1 pushed, 2 hole",
        "pushed team/app:1.2 → team/app:1.2: it was pushed after the freeze",
    ):
        assert said in text, said


def test_page_of_runs_says_what_was_found_instead_of_read() -> None:
    text = " ".join(read(migration=None).text.split())

    assert "871.9 GB unique, read once each 3.4 TB mounted or found there (80 %" in text


def test_page_loads_and_runs_nothing() -> None:
    reading = read()

    assert reading.open == []
    assert not {tag for tag, _ in reading.tags} & {
        "script", "link", "img", "iframe", "object", "embed", "form", "base", "svg", "a", "video",
    }  # fmt: skip
    for _, attributes in reading.tags:
        assert not [name for name in attributes if name.startswith("on") or name in {"src", "href"}]
    assert "url(" not in page(sample())
    assert "@import" not in page(sample())
    policy = next(a["content"] for _, a in reading.tags if a.get("http-equiv"))
    assert policy == "default-src 'none'; style-src 'unsafe-inline'"


def test_strings_of_strangers_are_text_wherever_they_stand() -> None:
    """Every text of a report is replaced by a hostile one, one after the other and all at once."""
    plain = {(tag, *sorted(attributes)) for tag, attributes in read().tags}

    def planted(value: Any, only: list[int]) -> Any:
        if isinstance(value, str):
            only[0] -= 1
            return NASTY if only[0] == 0 or only[1] else value
        if isinstance(value, list):
            return [planted(one, only) for one in value]
        if isinstance(value, dict):
            return {key: planted(inner, only) for key, inner in value.items()}
        return value

    whole = sample()
    count = 0
    while True:
        count += 1
        only = [count, 0]
        changed = planted(whole, only)
        if only[0] > 0:
            break
        made = page(changed)
        tags = {(tag, *sorted(attributes)) for tag, attributes in Reading(made).tags}
        assert tags <= plain, f"text {count}"
        assert "\u202e" not in made
        assert "\x1b" not in made
        assert "<script" not in made
    assert count > 60
    every = Reading(page(planted(whole, [0, 1])))
    assert "<script>alert(1)</script>" in every.text
    assert "{{ 7 * 7 }}" in every.text
    assert "script" not in {tag for tag, _ in every.tags}
    named = Reading(page(sample(destinations=dict.fromkeys((NASTY, "b"), destination()))))
    assert "script" not in {tag for tag, _ in named.tags}


def destination() -> Any:
    return sample()["destinations"]["tcr"]


def test_empty_and_open_reports_are_told() -> None:
    text = read(
        state="running",
        ended_at=None,
        sections=[],
        destinations={},
        warnings=[],
        links=[],
        failures=[],
        failure_classes=[],
        failures_total=0,
        bytes={"copied": 0, "saved": 0, "logical": 0},
        rule_file=None,
        rule_file_note="nothing failed that a rule could do again",
        receipt=None,
        migration=None,
        began_at=None,
    ).text

    assert "it goes on" in text
    assert "There is none: an execution goes on" in text
    assert "What failed" not in text


def test_page_stays_small_whatever_failed() -> None:
    failures = [failure(n, "gone", f"reason {n} of its own") for n in range(1000)]
    rules = [{"name": f"rule-{n}", "source": "ccr"} for n in range(1000)]

    made = page(
        sample(
            failures=failures,
            failure_classes=[failure_class("gone", 90_000)],
            rule_file={"version": 1, "rules": rules},
        )
    )

    assert len(made) < 60_000
    assert "and 89\N{NARROW NO-BREAK SPACE}980 more" in made
    assert "--rules failed.yaml" in made


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0, "0.0 s"), (59.94, "59.9 s"), (60, "1 min"), (312, "5 min 12 s"), (12000, "3 h 20 min"),
     (7200, "2 h"), (187200, "2 d 4 h")],
)  # fmt: skip
def test_durations_are_said_as_people_say_them(seconds: float, said: str) -> None:
    assert duration(seconds) == said
