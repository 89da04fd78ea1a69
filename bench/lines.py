"""What the lines alone ask of S4b where each region has workers of its own: the board, nothing else.

    python -m bench.lines [--destinations 8] [--besides 0.3] [--stream 0]

The source sends its large blobs to one destination, the largest first, one at a time; from there on the board
(service/model/board.py) says who sends what to whom. Flows share lines fairly; `--besides` are the seconds that
each blob takes besides its bytes, `--stream` bounds a single flow in MB/s. Prints seconds until every
destination has every blob, and the MB that each registry has sent.
"""

from __future__ import annotations

import argparse
import heapq
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count

from api.samples.fleet_plan import plan_fleet
from bench.scenarios.s4_many_regions import LINK
from bench.scenarios.s4b_larger_layers import LARGE
from service.model.board import Board, Moment, Need
from service.model.work import Errand, PartBlob
from service.replication.errands import AHEAD_BYTES

SOURCE, HEAD = 0, 1
ANSWER_SECONDS = 2 * LINK.delay


@dataclass
class Flow:
    """A blob under way between two registries; `errand` is None for those from the source."""

    sender: int
    receiver: int
    blob: PartBlob
    left: float
    errand: Errand | None = None


def shares(flows: Sequence[Flow], line: float, most: float) -> list[float]:
    """Return the bytes a second of each flow: lines are shared fairly, and no flow is above `most`."""
    ends = [(("out", flow.sender), ("in", flow.receiver)) for flow in flows]
    free = {end: line for pair in ends for end in pair}
    found: dict[int, float] = {}
    while len(found) < len(flows):
        users = Counter(end for one, pair in enumerate(ends) if one not in found for end in pair)
        tightest = min(users, key=lambda end: free[end] / users[end])
        share = min(most, free[tightest] / users[tightest])
        for one, pair in enumerate(ends):
            if one not in found and (tightest in pair or share == most):
                found[one] = share
                for end in pair:
                    free[end] -= share
    return [found[one] for one in range(len(flows))]


def spread(
    sizes: Sequence[int], destinations: int, besides: float, most: float
) -> tuple[float, Counter[int]]:
    """Return the seconds until all have all, and the bytes that each has sent."""
    board, now, numbers = Board(), 0.0, count()
    at_source = [
        PartBlob(f"sha256:{n:064x}", size, "") for n, size in enumerate(sorted(sizes, reverse=True))
    ]
    everybody = tuple(str(one) for one in range(1, destinations + 1))
    needs = {one: Need(str(one), "", "", everybody) for one in range(2, destinations + 1)}
    flows: list[Flow] = []
    sent: Counter[int] = Counter()
    asked: list[tuple[float, int, Errand]] = []
    while True:
        if at_source and all(flow.sender != SOURCE for flow in flows):
            blob = at_source.pop(0)
            flows.append(Flow(SOURCE, HEAD, blob, blob.size))
        for errand, _ in board.assign("fleet", Moment(now, lambda _: True)):
            heapq.heappush(asked, (now + besides, next(numbers), errand))
        while asked and asked[0][0] <= now:
            errand = heapq.heappop(asked)[2]
            board.begin(errand, now, "worker")
            flows.append(
                Flow(errand.holder, errand.follower, errand.blob, errand.blob.size, errand)
            )
        if not flows and not asked:
            return now, sent
        rates = shares(flows, float(LINK.shared_bytes_per_second), most)
        steps = [flow.left / rate for flow, rate in zip(flows, rates, strict=True)]
        step = min([*steps, *(one[0] - now for one in asked[:1])])
        now += step
        for flow, rate in zip(flows, rates, strict=True):
            flow.left -= rate * step
        for flow in [one for one in flows if one.left < 1]:
            flows.remove(flow)
            sent[flow.sender] += flow.blob.size
            if flow.errand is None:
                board.offer(flow.blob, HEAD, str(HEAD), needs, now)
            else:
                board.end(flow.errand, now, placed=True, answer=ANSWER_SECONDS)


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m bench.lines",
        description=__doc__,
        formatter_class=argparse.RawTextHelpFormatter,
    )
    parser.add_argument("--destinations", type=int, default=8)
    parser.add_argument("--besides", type=float, default=0.3)
    parser.add_argument("--stream", type=float, default=0.0, help="0: as much as the line")
    words = parser.parse_args()
    manifests = [one for repository in plan_fleet(LARGE) for one in repository.manifests()]
    blobs = {blob.digest: blob.size for one in manifests for blob in one.blobs}
    sizes = [size for size in blobs.values() if size >= AHEAD_BYTES]
    most = words.stream * 1e6 or float(LINK.shared_bytes_per_second)
    seconds, sent = spread(sizes, words.destinations, words.besides, most)
    told = {str(name): round(size / 1e6) for name, size in sorted(sent.items())}
    print(json.dumps({"seconds": round(seconds, 1), "blobs": len(sizes), "sent_mb": told}))


if __name__ == "__main__":
    main()
