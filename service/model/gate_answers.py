"""What a gate's webhook may answer, and what of it counts: signed, in time, of this promotion and this digest.

Everything else is no answer, and what has no answer is not promoted (issue 10).
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from service.errors import InvalidInput, InvalidManifest
from service.model import strict_json
from service.model.pipeline import SCAN, SEVERITIES, Gate

HEADER = "transship-signature"
MAX_AGE_SECONDS = 300
MAX_REASON = 500
MOST_FINDINGS = 1_000_000_000

APPROVE, REJECT, WAIT = "approve", "reject", "wait"
DECISIONS = (APPROVE, REJECT, WAIT)


class NoAnswer(InvalidInput):
    """What came is no answer that counts; the message says why, and never repeats the secret."""

    code = "no_answer"


@dataclass(frozen=True, slots=True)
class Decision:
    """What a gate was told: one of DECISIONS, and why."""

    decision: str
    reason: str = ""


def signature(secret: str, timestamp: int, body: bytes) -> str:
    """Return the value of Transship-Signature: the time, and HMAC-SHA256 of time, a dot and the body."""
    told = f"{timestamp}.".encode() + body
    return f"t={timestamp},v1={hmac.new(secret.encode(), told, hashlib.sha256).hexdigest()}"


def is_signed(header: str, body: bytes, secrets: Sequence[str], now: float) -> bool:
    """Whether one of the secrets has signed the body, no longer than MAX_AGE_SECONDS ago."""
    stamp, comma, _ = header.partition(",")
    digits = stamp.removeprefix("t=")
    if not comma or digits == stamp or not (digits.isascii() and digits.isdigit()):
        return False
    if len(digits) > 12 or abs(now - int(digits)) > MAX_AGE_SECONDS:
        return False
    good = [
        hmac.compare_digest(signature(secret, int(digits), body).encode(), header.encode())
        for secret in secrets
    ]
    return any(good)


def read_answer(
    header: str,
    body: bytes,
    secrets: Sequence[str],
    now: float,
    *,
    promotion: str,
    position: int,
    digest: str,
    gate: Gate,
) -> Decision:
    """Return what was decided. Raises NoAnswer for whatever is not an answer to just this question."""
    if not is_signed(header, body, secrets, now):
        raise NoAnswer(
            "the answer is not signed with the pipeline's secret, or was signed too long ago",
            hint="send Transship-Signature: t=SECONDS,v1=HMAC-SHA256 of SECONDS.BODY in hex",
        )
    try:
        found = strict_json.loads(body)
    except InvalidManifest as error:
        raise NoAnswer(f"the answer is {error.message}") from error
    if not isinstance(found, dict):
        raise NoAnswer("the answer is no JSON object")
    for key, wanted in (("promotion", promotion), ("gate", position), ("digest", digest)):
        if type(found.get(key)) is not type(wanted) or found[key] != wanted:
            raise NoAnswer(
                f"the answer is about another {key}", hint=f"repeat the {key} of the question"
            )
    if gate.kind == SCAN:
        return _scanned(found, gate.worst)
    decision = found.get("decision")
    if decision not in DECISIONS:
        raise NoAnswer(
            f"the answer decides {str(decision)[:40]!r}", hint=f"say {', '.join(DECISIONS)}"
        )
    return Decision(str(decision), _reason(found))


def _scanned(found: Mapping[str, Any], worst: str) -> Decision:
    """Hold a scan's findings to the worst severity that is let through."""
    if found.get("decision") == WAIT:
        return Decision(WAIT, _reason(found))
    counts = found.get("findings")
    names = SEVERITIES[1:]
    if not isinstance(counts, dict) or set(counts) != set(names):
        raise NoAnswer(
            "the answer does not count the findings of every severity",
            hint=f"send findings with the numbers of {', '.join(names)}",
        )
    for name, count in counts.items():
        if type(count) is not int or not 0 <= count <= MOST_FINDINGS:
            raise NoAnswer(f"the number of {name} findings is none")
    words = ", ".join(f"{counts[name]} {name}" for name in reversed(names))
    too_bad = [
        name for name in names if counts[name] and SEVERITIES.index(name) > SEVERITIES.index(worst)
    ]
    if too_bad:
        return Decision(REJECT, f"{words}; {too_bad[-1]} is worse than {worst}")
    return Decision(APPROVE, words)


def _reason(found: Mapping[str, Any]) -> str:
    reason = found.get("reason")
    return reason[:MAX_REASON] if isinstance(reason, str) else ""
