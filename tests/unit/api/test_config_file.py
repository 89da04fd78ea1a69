"""transship.yaml: what is read, and that every error names its line."""

from __future__ import annotations

import contextlib
import textwrap
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.config_file import load_file, load_text
from service.errors import InvalidConfiguration, InvalidFields

GOOD = """\
version: 1
registries:
  - name: east
    url: https://east.example
    groups: [prod]
  - name: west
    url: http://127.0.0.1:5001
defaults: {priority: bulk}
rules:
  - name: fleet
    source: east
    select:
      - repositories: ["team*/**"]
        tags: {include: ["v*"], exclude: ["*-rc*"]}
    destinations:
      - {registry: west, repository: "mirror/{repository[1:]}"}
"""


def told(text: str) -> list[tuple[int | None, str, str]]:
    with pytest.raises(InvalidFields) as caught:
        load_text(textwrap.dedent(text))
    return [
        (problem.line, problem.path, f"{problem.message} | {problem.hint}")
        for problem in caught.value.problems
    ]


def test_file_is_read(tmp_path: Path) -> None:
    file = tmp_path / "transship.yaml"
    file.write_bytes(b"\xef\xbb\xbf" + GOOD.replace("\n", "\r\n").encode())

    config = load_file(file)

    assert [endpoint.name for endpoint in config.registries] == ["east", "west"]
    assert config.rules[0].priority == "bulk"
    assert config.documents["registries", "west"] == {
        "name": "west",
        "url": "http://127.0.0.1:5001",
    }
    assert config.documents["rules", "fleet"]["priority"] == "bulk"
    assert config.lines["rules", 0, "source"] == 11
    assert config.lines["rules", 0, "select", 0, "tags", "exclude"] == 14


def test_errors_name_file_line_field_and_what_to_do() -> None:
    with pytest.raises(InvalidFields) as caught:
        load_text(GOOD.replace("source: east", "source: eats"), source="fleet.yaml")

    assert str(caught.value) == (
        "fleet.yaml:11: rules[0].source: there is no registry 'eats' (did you mean 'east'?)"
    )


@pytest.mark.parametrize(
    ("old", "new", "line", "path", "words"),
    [
        ("version: 1\n", "", 1, "version", "is missing"),
        ("version: 1", "version: 2", 1, "version", "between 1 and 1"),
        ("version: 1", 'version: "1"', 1, "version", "whole number"),
        ("url: https://east", "urll: https://east", 4, "registries[0].urll", "did you mean 'url'"),
        ("name: west", "name: east", 6, "registries[1].name", "twice, first in line 3"),
        ("    groups: [prod]", "    name: east", 5, "registries[0].name", "twice, first in line 3"),
        ("registry: west", "registry: wets", 16, "rules[0].destinations[0].registry", "'west'"),
        ("registry: west", "group: lab", 16, "rules[0].destinations[0].group", "no registry"),
        ('include: ["v*"]', 'include: ["["]', 14, "rules[0].select[0].tags.include[0]", "'['"),
        ("defaults: {priority: bulk}", "defaults: {priority: x}", 8, "defaults.priority", "one of"),
        ("defaults: {priority: bulk}", "region: []", 8, "region", "did you mean 'regions'?"),
        ("  - name: fleet", "  - 5\n  - name: fleet", 10, "rules[0]", "must be an object"),
        ("groups: [prod]", "groups: []\n    x: y", 6, "registries[0].x", "unknown key"),
    ],
)
def test_mistake_in_one_place_is_told_with_its_line(
    old: str, new: str, line: int, path: str, words: str
) -> None:
    assert old in GOOD
    problems = told(GOOD.replace(old, new, 1))

    assert [words in text for *place, text in problems if place == [line, path]] == [True]


def test_rule_onto_itself_is_refused() -> None:
    problems = told(
        GOOD.replace('{registry: west, repository: "mirror/{repository[1:]}"}', "{registry: east}")
    )

    assert problems[0][:2] == (16, "rules[0].destinations[0]")


def test_loop_without_an_end_is_refused_with_the_line_of_each_rule() -> None:
    text = """
    version: 1
    registries:
      - {name: east, url: "http://127.0.0.1:5000"}
      - {name: west, url: "http://127.0.0.1:5001"}
    rules:
      - name: there
        source: east
        select: [{repositories: ["**"]}]
        destinations: [{registry: west, repository: "mirror/{repository}"}]
      - name: back
        source: west
        select: [{repositories: ["**"]}]
        destinations: [{registry: east}]
    """

    problems = told(text)

    assert [place for *place, _ in problems] == [
        [10, "rules[0].destinations"],
        [14, "rules[1].destinations"],
    ]
    assert all("that would never end" in words for *_, words in problems)


def test_all_mistakes_are_told_in_the_order_of_lines() -> None:
    problems = told(GOOD.replace("name: east", "name: East").replace("bulk", "bulky"))

    assert [line for line, _, _ in problems] == [3, 8]


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("", None, "empty"),
        ("a: [1", 1, "not YAML"),
        ("a: 1\n\tb: 2", 2, "not YAML"),
        ("a: 1\nb: {", 2, "not YAML"),
        ("version: 1\nversion: 1", 2, "twice, first in line 1"),
        ("a: !!python/object/apply:os.system [x]", 1, "tag"),
        ("a: !!set {x}", 1, "tag"),
        ("a: &a [*a]", 1, "nested deeper"),
        ("- x", None, "must be an object"),
        ("[a]: 1", 1, "key must be a text"),
        ("a: 1\n--- \nb: 2", 2, "not YAML"),
        ("a: *nothing", 1, "not YAML"),
        ("a: \x00", None, "not YAML"),
        ("a: " + "[" * 100 + "]" * 100, 1, "nested deeper"),
        ("a: " + "[" * 100_000, None, "nested too deeply"),
    ],
)
def test_what_is_no_plain_document_is_refused(text: str, line: int | None, words: str) -> None:
    problems = told(text)

    assert words in problems[0][2]
    if line is not None:
        assert problems[0][0] == line


def test_alias_bomb_is_refused_quickly() -> None:
    levels = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    levels += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 12)]

    assert "aliases counted" in told("\n".join(levels))[0][2]


def test_large_file_is_refused() -> None:
    assert "larger" in told("#" * 5_000_001)[0][2]


def test_merge_keys_lie_beneath_the_mapping_s_own() -> None:
    config = load_text(
        textwrap.dedent("""\
        version: 1
        registries:
          - &east {name: east, url: "https://east.example", groups: [prod]}
          - {<<: *east, name: west}
        """)
    )

    assert config.registries[1].name == "west"
    assert config.registries[1].groups == ("prod",)


def test_date_stays_a_text_and_number_is_told_to_be_quoted() -> None:
    text = GOOD.replace('include: ["v*"]', "include: [2024-01-01, 1.10]")

    assert told(text) == [
        (
            14,
            "rules[0].select[0].tags.include[1]",
            "must be a text, not a number | write it in quotes",
        )
    ]


def test_file_that_is_not_there_or_no_text_is_told(tmp_path: Path) -> None:
    with pytest.raises(InvalidConfiguration, match=r"nothing\.yaml: cannot be read: No such file"):
        load_file(tmp_path / "nothing.yaml")
    with pytest.raises(InvalidConfiguration, match=r"there is no \.yaml"):
        load_file(tmp_path)
    latin = tmp_path / "latin.yaml"
    latin.write_bytes(b"a: 1\nb: \xe9\n")
    with pytest.raises(InvalidFields, match=r"latin.yaml:2: this is not UTF-8"):
        load_file(latin)


@given(st.text(max_size=200))
def test_any_text_is_read_or_refused(text: str) -> None:
    with contextlib.suppress(InvalidConfiguration):
        load_text(text)


def test_project_of_the_how_to_page_is_read() -> None:
    page = (Path(__file__).parents[3] / "docs/how-to/govern.md").read_text("utf-8")
    text = page.split("```yaml\n")[1].split("```")[0]
    places = (
        "registries: [{name: east, url: 'https://e.example'}, {name: west, url: 'https://w'}]\n"
    )

    config = load_text(text + places)

    assert config.projects[0].may_write("west", "mirror/team-a/app")
    assert not config.projects[0].may_read("east", "team-b/app")


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("a: b: c", 1, "a ':' stands where no value can begin"),
        ("a:\n\tb: 1", 2, "a tab stands where YAML takes spaces only"),
        ("a: [1, 2\nb: 3", 2, "a list that was opened with [ is not closed"),
        ("a: {b: 1\nc: 2", 2, "an object that was opened with { is not closed"),
        ("tags: [*-rc*]", 1, "a text begins with * or &"),
        ("tags: *rc", 1, "an alias names an anchor that does not stand above it"),
        ('a: "open', 1, "a text in quotes is not closed"),
        ('a: "\\d+"', 1, "a backslash in double quotes"),
        ("a: 1\n  b: 2", 2, "a ':' stands where no value can begin"),
        ("a:\n  - 1\n b: 2", 3, "does not belong to what stands around it"),
        ("a: 1\nb\nc: 2", 3, "a key without its ':'"),
        ("a: %x", 1, "a text begins with %"),
        ("a: @x", 1, "a text begins with a character that YAML keeps for itself"),
        ("a: 1\n---\nb: 2", 2, "a second document begins here"),
    ],
)
def test_mistakes_of_syntax_are_told_in_plain_words(text: str, line: int, words: str) -> None:
    [(found, _, said)] = told(text)

    assert words in said
    assert found == line
    assert said.split(" | ")[1]


def test_unknown_names_are_told_together_with_all_other_errors() -> None:
    text = """
version: 1
registries:
  - {name: east, url: "https://east.example"}
  - {name: broken, url: "https://broken.example", groupz: [x]}
rules:
  - {name: one, source: east, select: [{repositories: ["**"]}], destinations: [{registry: wset}]}
  - {name: two, source: broken, select: [{repositories: ["**"]}], destinations: [{registry: east}]}
  - name: three
    source: east
    select: [{repositories: ["**"], tags: {newest: 3}}]
    destinations: [{registry: broken}]
"""

    with pytest.raises(InvalidFields) as caught:
        load_text(text)

    told = {problem.path: problem for problem in caught.value.problems}
    assert set(told) == {
        "registries[1].groupz",
        "rules[0].destinations[0].registry",
        "rules[2].select[0].tags.newest",
    }
    assert "{count: 3, by: semver}" in told["rules[2].select[0].tags.newest"].hint
