"""What the classes of failures mean, and what mends them (reference/reliability.md 2.5): the words of reports."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class FailureClass:
    """What a class means, and what to do about it."""

    meaning: str
    fix: str


CLASSES: dict[str, FailureClass] = {
    "network": FailureClass(
        "a registry could not be reached, or fell silent",
        "look at `transship doctor REGISTRY`; once it answers, run what failed again",
    ),
    "throttled": FailureClass(
        "a registry asked for fewer requests again and again",
        "lower the registry's limits (requests_per_second, concurrency), or spread the work over more time",
    ),
    "server": FailureClass(
        "a registry answered with an error of its own",
        "look at that registry's log or state; once it is well, run what failed again",
    ),
    "auth": FailureClass(
        "a registry did not take the credentials",
        "renew them (credentials of the registry), then run what failed again",
    ),
    "denied": FailureClass(
        "the credentials are known, but may not do this",
        "let them pull at the source and push at the destination, or create the project there first",
    ),
    "gone": FailureClass(
        "the source has no such manifest or blob any more",
        "push the image again at the source, or leave it out of the rule",
    ),
    "invalid": FailureClass(
        "a registry, or Transship itself, refuses it as it is",
        "read the reason: another attempt changes nothing before the image, the name or the rule is changed",
    ),
    "corrupt": FailureClass(
        "bytes did not match their digest, several times",
        "what is stored at the source is damaged: delete the blob or the image there, push it again (a registry that "
        "believes to have a blob takes no other), then retry",
    ),
    "policy": FailureClass(
        "a rule of yours forbids it: signatures, borders, addresses or certificates",
        "read the reason: allow it where it is meant, or leave it out of the rule",
    ),
    "region": FailureClass(
        "no worker is where this may be done",
        "start a worker in a region of the source's or the destination's jurisdiction",
    ),
    "conflict": FailureClass(
        "the destination has something else under this name, and the rule keeps it",
        "choose another name, or on_conflict: overwrite",
    ),
    "superseded": FailureClass(
        "the source's tag moved during each attempt",
        "run it again when nobody pushes to it",
    ),
    "stopped": FailureClass("it was stopped", "run what failed again"),
    "paused": FailureClass("a registry or rule is paused", "resume it, then run what failed again"),
    "moved": FailureClass(
        "the world is not as the plan found it", "make another plan and carry that out"
    ),
    "missing": FailureClass("the destination lacks the tag", "run the rule, or verify --repair"),
    "stale": FailureClass(
        "the destination's tag is behind the source", "run the rule, or verify --repair"
    ),
    "hole": FailureClass(
        "the tag is there, and something behind it is not readable", "verify --repair"
    ),
    "bug": FailureClass(
        "Transship itself failed",
        "report it with the reason; `executions retry` tries it once more",
    ),
}

UNKNOWN = FailureClass(
    "a class that this version has no words for", "read the reason of each of them"
)


def words(failure_class: str) -> FailureClass:
    """Return what a class means and what mends it."""
    return CLASSES.get(failure_class, UNKNOWN)
