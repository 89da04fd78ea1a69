"""Pull tokens: what was signed is read again, by each key of the ring, and nothing else."""

from __future__ import annotations

import base64
import json

from hypothesis import given
from hypothesis import strategies as st

from service.model.pull_token import ACCESS, LOGIN, PullGrant, PullKeys

OLD, NEW = bytes(range(32)), bytes(range(1, 33))
GRANT = PullGrant("0f", "cluster-1", ("team/**", "hub/*"), 2_000_000_000.0)


def test_what_was_signed_is_read_by_every_key_of_the_ring() -> None:
    text = PullKeys([OLD]).sign(GRANT)

    assert PullKeys([OLD]).read(text) == GRANT
    assert PullKeys([NEW, OLD]).read(text) == GRANT
    assert PullKeys([NEW]).read(text) is None


def test_one_kind_is_not_the_other() -> None:
    keys = PullKeys([OLD])

    assert keys.read(keys.sign(GRANT, ACCESS), LOGIN) is None
    assert keys.read(keys.sign(GRANT, LOGIN), ACCESS) is None


def test_a_token_cannot_be_given_more_names() -> None:
    body, signature = PullKeys([OLD]).sign(GRANT).removeprefix("tpt_").split(".")
    said = json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))
    said["r"] = ["**"]
    more = base64.urlsafe_b64encode(json.dumps(said).encode()).rstrip(b"=").decode()

    assert PullKeys([OLD]).read(f"tpt_{more}.{signature}") is None


def test_each_other_last_character_is_none() -> None:
    text = PullKeys([OLD]).sign(GRANT)
    others = {
        text[:-1] + one
        for one in "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    }

    assert [one for one in others if PullKeys([OLD]).read(one)] == [text]


@given(st.text() | st.from_regex(r"tpt_[A-Za-z0-9_-]{2,40}\.[A-Za-z0-9_-]{43}", fullmatch=True))
def test_any_other_text_is_none_and_raises_nothing(text: str) -> None:
    assert PullKeys([OLD]).read(text) is None


def test_names_and_times() -> None:
    assert GRANT.may_pull("team/app/x")
    assert GRANT.may_pull("hub/nginx")
    assert not GRANT.may_pull("hub/a/b")
    assert not GRANT.may_pull("teams/app")
    assert GRANT.is_over(2_000_000_000.0)
    assert not GRANT.is_over(1_999_999_999.0)
    assert not PullGrant("a", "b", ("**",)).is_over(9e12)
