"""image-transfer's files of its quick mode: read as it reads them, and nothing of them is shown when they are wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from api.importers.quick_mode import keys, login
from service.errors import InvalidFields

HOST = "ccr.ccs.tencentyun.com"


def test_one_key_stands_for_both(tmp_path: Path) -> None:
    path = tmp_path / "secret.yaml"
    path.write_text(
        "ccr: {secretId: AKIDa, secretKey: one}\ntcr: {secretId: AKIDb, secretKey: two}\n"
    )
    both = keys(str(path))
    path.write_text("tcr: {secretId: AKIDb, secretKey: two}\n")
    single = keys(str(path))

    assert [(key.identity, key.secret) for key in both] == [("AKIDa", "one"), ("AKIDb", "two")]
    assert [key.identity for key in single] == ["AKIDb", "AKIDb"]
    assert "two" not in repr(single)


def test_login_is_that_of_the_host(tmp_path: Path) -> None:
    path = tmp_path / "security.yaml"
    path.write_text(f"{HOST}: {{username: 100012345678, password: p}}\nother.example: {{}}\n")

    assert login(str(path), HOST) == ("100012345678", "p")


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("[]", 1),
        ("ccr: 1\n", 1),
        ("tcr: {secretId: a, secretKey: hush}\nccr: {secretId: hush}\n", 2),
        ("tcr: {secretId: a, secretKey: hush}\nxcr: {secretId: a, secretKey: hush}\n", 1),
        ("tcr: {secretId: [hush], secretKey: hush}\n", 1),
        ("tcr: {secretId: '', secretKey: hush}\n", 1),
    ],
)
def test_odd_files_are_told_by_line_and_show_no_secret(
    tmp_path: Path, text: str, line: int
) -> None:
    path = tmp_path / "secret.yaml"
    path.write_text(text)

    with pytest.raises(InvalidFields) as caught:
        keys(str(path))

    [problem] = caught.value.problems
    assert problem.line == line
    assert problem.hint
    assert "hush" not in str(caught.value)


@pytest.mark.parametrize("text", ["[]", "other: {}", f"{HOST}: x", f"{HOST}: {{username: u}}"])
def test_login_that_is_not_there_is_told(tmp_path: Path, text: str) -> None:
    path = tmp_path / "security.yaml"
    path.write_text(text)

    with pytest.raises(InvalidFields, match=HOST):
        login(str(path), HOST)
