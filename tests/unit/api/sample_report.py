"""A report as the API answers it, with everything that may be in one."""

from __future__ import annotations

from typing import Any

WHEN = {"began_at": "2026-11-28T08:00:00.000Z", "ended_at": "2026-11-28T11:20:00.500Z"}


def counts(copied: int, unchanged: int = 0, failed: int = 0) -> dict[str, int]:
    return {
        "copied": copied,
        "unchanged": unchanged,
        "skipped": 0,
        "failed": failed,
        "pending": 0,
    }


def moved(copied: int, saved: int) -> dict[str, int]:
    return {"copied": copied, "saved": saved, "logical": copied + saved}


def section(label: str, state: str, copied: int, failed: int, gib: int) -> dict[str, Any]:
    run = {"execution": f"01a221d9c3afd6f09280{label[-1] * 4:4.4}", "rule": label, "state": state}
    return {
        "label": label,
        "state": state,
        **WHEN,
        "seconds": 4000.25,
        "copies": counts(copied, 12, failed),
        "bytes": moved(gib << 30, (gib * 3) << 30),
        "fleet": {
            "repositories": 3,
            "tags": copied,
            "bytes": (4 * gib) << 30,
            "unique_bytes": gib << 30,
        },
        "executions": [{**run, **WHEN, "seconds": 4000.25}],
    }


def failure(number: int, failure_class: str, reason: str, hint: str = "") -> dict[str, Any]:
    place = f"team{number % 3}/app{number}"
    return {
        "rule": "all",
        "source": f"ccr/{place}:1.{number}",
        "destination": f"tcr/{place}:1.{number}",
        "digest": None,
        "class": failure_class,
        "reason": reason,
        "hint": hint,
        "attempts": 5,
        "retryable": False,
    }


def failure_class(name: str, copies: int) -> dict[str, Any]:
    return {
        "class": name,
        "copies": copies,
        "meaning": f"something of {name}",
        "fix": "mend it, then run it again",
        "retryable": True,
    }


def look(**findings: int) -> dict[str, Any]:
    return {
        "state": "ended",
        "phase": "",
        "reason": "",
        "fleet": {"repositories": 12, "tags": 100_000, "bytes": 4 << 40, "unique_bytes": 1 << 40},
        "listed": 12,
        "findings": findings,
        "created_at": WHEN["began_at"],
        "ended_at": WHEN["ended_at"],
    }


def migration(*, proved: bool | None = False) -> dict[str, Any]:
    return {
        "name": "ccr-to-tcr",
        "source": "ccr",
        "destination": "tcr",
        "state": "refused",
        "proved": proved,
        "inventory": look(),
        "freeze": look(),
        "proof": look(pushed=1, hole=2),
        "findings": [
            {
                "kind": "pushed",
                "repository": "team/app",
                "tag": "1.2",
                "destination": "team/app:1.2",
                "wanted": "sha256:" + "ab" * 32,
                "found": "sha256:" + "cd" * 32,
                "reason": "it was pushed after the freeze",
            }
        ],
    }


def sample(**changes: Any) -> dict[str, Any]:
    """A migration of 100,000 tags of which some failed."""
    gone = "source ccr: team0/app0 has no blob sha256:" + "ab" * 32
    return {
        "schema": 1,
        "title": "ccr to tcr",
        "made_at": "2026-11-28T11:21:00.000Z",
        "state": "partial",
        **WHEN,
        "seconds": 12000.5,
        "copies": counts(98_412, 1_204, 384),
        "blobs": {"copied": 120_001, "mounted": 3, "present": 220_000},
        "bytes": moved(812 << 30, 3211 << 30),
        "requests": {"ccr": 812_231, "tcr": 1_200_311},
        "links": [{"from": "ccr", "to": "tcr", "copies": 98_412, "bytes": 812 << 30}],
        "sections": [
            section("wave-1", "succeeded", 10_000, 0, 80),
            section("wave-2", "partial", 50_000, 383, 400),
            section(
                "the-rest-of-everything-that-nobody-had-named-before-3", "failed", 38_412, 1, 332
            ),
        ],
        "destinations": {
            "tcr": {"copies": counts(98_412, 1_204, 384), "bytes": moved(812 << 30, 3211 << 30)},
            "tcr-singapore": {"copies": counts(3), "bytes": moved(10, 20)},
        },
        "warnings": ["rule wave-2: nothing matches team9/**"],
        "failures_total": 385,
        "failure_classes": [failure_class("gone", 380), failure_class("denied", 5)],
        "failures": [
            *[failure(n, "gone", gone, "push it again") for n in range(3)],
            failure(9, "denied", "destination tcr: DENIED: requested access is denied"),
        ],
        "rule_file": {
            "version": 1,
            "registries": [{"name": "ccr", "url": "https://ccr.example"}],
            "rules": [{"name": "wave-2-failures-tcr", "source": "ccr"}],
        },
        "rule_file_note": "",
        "receipt": {
            "instance": "ed25519:" + "3f" * 16,
            "made": "2026-11-28T11:20:00.500Z",
            "entries": 98_412,
            "sha256": "ce" * 32,
            "signature": "c2lnbmF0dXJl" * 7,
            "public_key": "-----BEGIN PUBLIC KEY-----\n",
        },
        "migration": migration(),
        **changes,
    }
