"""transship migrate ccr-to-tcr: a whole account by one command, through real workers; skopeo reads what came of it."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from api.cli.main import main
from api.config_file import load_text
from api.engine.tencent import CCR_SECRET, TCR_SECRET
from service.model.receipt_signature import verify
from tests.contract.ccr import PASSWORD, USER, FakeCcr
from tests.contract.skopeo import copy_by_skopeo, needs_skopeo
from tests.contract.tcr import SECRET_ID, SECRET_KEY, FakeTcr
from tests.contract.test_ccr import open_client
from tests.integration.registry.support import push
from tests.support.transship import clean_environment, transship

pytestmark = pytest.mark.timeout(120)
KEEPER = ("tcr$keeper", "s3cret-of-keeper")


@pytest.fixture
def ccr() -> Iterator[FakeCcr]:
    with FakeCcr() as fake:
        yield fake


@pytest.fixture
def tcr() -> Iterator[FakeTcr]:
    with FakeTcr(ttl_seconds=3600) as fake:
        fake.users[KEEPER[0]] = KEEPER[1]
        yield fake


@pytest.fixture
def account(ccr: FakeCcr) -> FakeCcr:
    """Three namespaces; of team-a/app four tags, whose order by push is not that of their names."""
    owner = open_client(ccr)
    for number, day in enumerate((4, 2, 9, 1)):
        push(owner, "team-a/app", f"v{number}", b"shared", f"app {number}".encode())
        ccr.pushed["team-a/app", f"v{number}"] = f"2026-03-0{day} 10:00:00"
    push(owner, "team-a/web/front", "1.0", b"shared", b"front")
    push(owner, "team-b/tool", "latest", b"shared", b"tool")
    ccr.repositories.add("team-c/empty")
    ccr.namespaces.add("team-c")
    owner.close()
    ccr.log.clear()
    return ccr


LOGIN = ("--ccr-user", USER, "--ccr-password-env", "CCR_PASSWORD")


def words_of(ccr: FakeCcr, tcr: FakeTcr, *login: str) -> list[str]:
    return [
        *("migrate", "ccr-to-tcr", *login),
        *("--ccr-url", ccr.url, "--ccr-api-url", ccr.control.url),
        *("--tcr-url", tcr.url, "--tcr-api-url", tcr.control.url),
    ]


SECRETS = {
    "CCR_PASSWORD": PASSWORD,
    "TENCENTCLOUD_SECRET_ID": SECRET_ID,
    "TENCENTCLOUD_SECRET_KEY": SECRET_KEY,
}


def run(ccr: FakeCcr, tcr: FakeTcr, *words: str) -> subprocess.CompletedProcess[str]:
    return transship(
        *words_of(ccr, tcr, *LOGIN), *words, environment={**clean_environment(), **SECRETS}
    )


def tags(registry: Any) -> set[str]:
    return {
        f"{name}:{tag}"
        for name in registry.storage.repositories()
        for tag in registry.storage.tags(name) or ()
    }


@needs_skopeo
def test_account_moves_with_what_was_pushed_last(
    account: FakeCcr, tcr: FakeTcr, tmp_path: Path
) -> None:
    page, receipt, data = tmp_path / "r.html", tmp_path / "r.jsonl", tmp_path / "data"
    words = ["--newest", "2", "--data", str(data), "-o", str(page), "--receipt", str(receipt)]

    planned = run(account, tcr, "--newest", "2", "--dry-run", "--json")
    assert planned.returncode == 0, planned.stderr
    assert json.loads(planned.stdout)["plans"][0]["copies"] == 4
    assert (tags(tcr), tcr.namespaces) == (set(), set())
    done = run(account, tcr, *words, "--json")

    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert (found["state"], found["copies"]["copied"]) == ("succeeded", 4)
    wanted = {"team-a/app:v0", "team-a/app:v2", "team-a/web/front:1.0", "team-b/tool:latest"}
    assert tags(tcr) == wanted
    assert tcr.namespaces == {"team-a", "team-b"}
    host = tcr.url.removeprefix("http://")
    for name in sorted(wanted):
        repository, _, tag = name.rpartition(":")
        folder = tmp_path / f"{repository.replace('/', '-')}-{tag}"
        folder.mkdir()
        copy_by_skopeo(host, *KEEPER, name, f"dir:{folder}/image", folder)
        there = account.storage.manifest(repository, tag)
        assert there is not None
        assert (folder / "image" / "manifest.json").read_bytes() == there.raw
    for secret in (PASSWORD, SECRET_KEY):
        assert secret not in done.stdout + done.stderr + page.read_text() + receipt.read_text()
    assert "ccr to tcr" in page.read_text()
    key = transship("receipts", "key", "--data", str(data))
    assert verify(receipt, key.stdout).entries == 4

    again = run(account, tcr, "--newest", "2", "--data", str(data), "--json")

    assert again.returncode == 0, again.stderr
    assert json.loads(again.stdout)["copies"] == {
        "copied": 0, "unchanged": 4, "skipped": 0, "failed": 0, "pending": 0,
    }  # fmt: skip


def test_what_cannot_move_is_told_and_the_rest_moves(
    account: FakeCcr, tcr: FakeTcr, tmp_path: Path
) -> None:
    """image-transfer skips the repositories of a namespace that cannot be made, and says nothing. By its own files."""
    tcr.forbidden.add("team-b")
    rules = tmp_path / "failed.yaml"
    host = account.url.removeprefix("http://")
    security, secret = tmp_path / "security.yaml", tmp_path / "secret.yaml"
    security.write_text(json.dumps({host: {"username": int(USER), "password": PASSWORD}}))
    secret.write_text(json.dumps({"tcr": {"secretId": SECRET_ID, "secretKey": SECRET_KEY}}))
    files = ("--security-file", str(security), "--secret-file", str(secret))

    done = transship(*words_of(account, tcr, *files), "--all-tags", "--rules", str(rules), "--json")

    assert done.returncode == 1, done.stderr
    found = json.loads(done.stdout)
    assert (found["state"], found["copies"]["copied"]) == ("partial", 5)
    assert [one["class"] for one in found["failure_classes"]] == ["denied"]
    assert found["failures"][0]["destination"] == "tcr/team-b/tool:latest"
    assert tags(tcr) == {
        *(f"team-a/app:v{number}" for number in range(4)),
        "team-a/web/front:1.0",
    }
    [rule] = load_text(rules.read_text()).rules
    assert rule.select[0].repositories.include == ("team-b/tool",)


WRONG: dict[str, tuple[list[str], dict[str, str], str]] = {
    "no key": ([], {"TENCENTCLOUD_SECRET_KEY": ""}, "holds nothing"),
    "no id": ([], {"TENCENTCLOUD_SECRET_ID": ""}, "holds nothing"),
    "the secret in the place of its variable": (
        ["--secret-key-env", SECRET_KEY], {}, "not the secret itself",
    ),
    "a file that is not there": (["--secret-id-file", "/nowhere"], {}, "cannot be read"),
    "none of any tag": (["--newest", "0"], {}, "--all-tags"),
    "both ways": (["--tcr-name", "x"], {}, "--tcr-name"),
    "a wrong key": ([], {"TENCENTCLOUD_SECRET_KEY": "wrong"}, "SignatureFailure"),
    "a receipt without a key": (["--receipt", "/tmp/never"], {}, "--data DIR"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_refused_before_anything_is_written(
    account: FakeCcr,
    tcr: FakeTcr,
    name: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    words, secrets, said = WRONG[name]
    for variable, value in {**SECRETS, **secrets}.items():
        monkeypatch.setenv(variable, value)
    for variable in (CCR_SECRET, TCR_SECRET):  # so that they go again
        monkeypatch.setenv(variable, "")

    with pytest.raises(SystemExit) as ended:
        main([*words_of(account, tcr, *LOGIN), *words])

    printed = capsys.readouterr()
    assert ended.value.code == 2, printed
    assert said in printed.err
    assert SECRET_KEY not in printed.err
    assert (tags(tcr), tcr.namespaces) == (set(), set())
