"""What was asked for on the command line, and what follows from it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from bench.peers import NEEDED, NEVER_FOUND, OTHERS, Contestant
from bench.results import Result


class Missing(Exception):
    """A peer without which the fleet scenarios say nothing."""


@dataclass(frozen=True)
class Options:
    """`quick`: small content, one sweep less; for trying the bench itself, never for the page."""

    rounds: int = 5
    quick: bool = False
    sweep: bool = True

    def fleet_peers(self, far: bool = False) -> tuple[list[Contestant], dict[str, str]]:
        """Those that are here, and those that are missing with the reason; raises Missing.

        `far`: swept over the settings for far links.
        """
        gone = [one.program for one in NEEDED if one.path() is None]
        if gone:
            raise Missing(
                f"{', '.join(gone)}: not found in .bench/bin or PATH. Run "
                "`python -m bench.peers_install`; skopeo is Debian's (apt-get install skopeo)."
            )
        present: list[Contestant] = list(NEEDED)
        missing = dict(NEVER_FOUND)
        for one in OTHERS:
            if one.path() is None:
                missing[one.name] = "not in .bench/bin or PATH (python -m bench.peers_install)"
            else:
                present.append(one)
        if far:
            present = [replace(one, settings=one.far or one.settings) for one in present]
        return present, missing

    def result(
        self,
        scenario: str,
        title: str,
        contestants: Sequence[Contestant],
        missing: dict[str, str],
    ) -> Result:
        """A result with the contestants' versions."""
        return Result(
            scenario,
            title,
            missing=missing,
            versions={one.name: one.version() for one in contestants},
            facts={"rounds": self.rounds},
            quick=self.quick,
        )
