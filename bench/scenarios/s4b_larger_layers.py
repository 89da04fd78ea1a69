"""S4b: S4 with larger layers and eight destinations, where the uplinks are what costs.

Peers run at the last setting of their sweep, which was each one's best in S4. Who takes longer than four minutes is ended: it is not
the fastest.
"""

from __future__ import annotations

from api.samples.fleet_plan import MIB, FleetSpec
from bench.fleets import QUICK, load
from bench.options import Options
from bench.registries import registry
from bench.results import Result
from bench.scenarios.s4_many_regions import begin, compare

TITLE = "one source, many destinations, larger layers"
SCENARIO = "S4b"
LARGE = FleetSpec(repositories=8, tags=24, unique_bytes=200 * MIB, big_images=0)
DESTINATIONS = 8
MOST_SECONDS = 240.0


def run(options: Options) -> Result:
    """One table."""
    result, contestants, missing = begin(options, SCENARIO, TITLE)
    with registry() as source:
        fleet = load(source.url, QUICK if options.quick else LARGE)
        result.facts["fleet"] = fleet.describe()
        compare(
            result,
            contestants,
            missing,
            source,
            fleet,
            2 if options.quick else DESTINATIONS,
            "larger",
            rounds=options.rounds,
            sweep=False,
            timeout=MOST_SECONDS,
        )
    return result
