"""The route of an execution: a tree over the registries of its rule, on which bytes go on (docs/adr/0015)."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from service.model.borders import Borders
from service.model.region import Feeders, Link
from service.model.states import CopyState
from service.model.work import Selected
from service.replication.compare import InPlace

PLENTY = 125_000_000
"""Bytes a second of a link whose bandwidth nobody has told: a gigabit."""

NOMINAL_BYTES = 1 << 28
HOP_SECONDS = 1.0
"""What a way is judged by when several cost the same: the small blobs of a fleet, and what each hop begins later.

Large ones do not keep to the tree (docs/adr/0016).
"""

WIDEST_FORK = 3

MAX_CLIMBED = 24
MAX_BALANCED = 128
"""Registries beyond which a tree is not improved step by step, and is taken as it comes."""


@dataclass(frozen=True, slots=True)
class Edge:
    """That one registry may be fed from another, and at what price."""

    cost: float  # a GiB
    bandwidth: int  # bytes a second


@dataclass(frozen=True, slots=True)
class Route:
    """A tree: each destination's parent.

    `fed_by`: of destinations whose parent is not the source, the parent, and who else may feed them.
    """

    source: str
    parents: Mapping[str, str]
    fed_by: Mapping[str, Feeders] = field(default_factory=dict)


def plan_route(
    source: str,
    destinations: Iterable[str],
    region_of: Callable[[str], str],
    borders: Borders,
    links: Iterable[Link],
    *,
    named: Collection[str] | None = None,
) -> Route:
    """Return the tree of least cost from the source to all destinations.

    From one registry to another go bytes inside one declared region, and along a link between their
    regions; from the source also without a link, which counts as dearer than all links together. Of trees
    that cost the same, the source sends least, then the slowest sender is done first. Across a border only
    those are fed that the rule names itself (None: all).
    """
    names = [name for name in dict.fromkeys(destinations) if name != source]
    edges = _edges(source, names, region_of, frozenset(borders.jurisdictions), links)
    if named is not None:
        edges = {
            (sender, receiver): edge
            for (sender, receiver), edge in edges.items()
            if sender == source
            or receiver in named
            or not borders.lies_between(region_of(sender), region_of(receiver))
        }
    if all(sender == source for sender, _ in edges):
        return Route(source, dict.fromkeys(names, source))
    parents = _cheapest(source, names, edges)
    if len(names) <= MAX_BALANCED:
        parents = _balanced(source, parents, edges)
    return Route(source, parents, _feeders(source, names, parents, edges))


def with_hops(
    selected: Sequence[Selected], in_place: Sequence[InPlace], parents: Mapping[str, str]
) -> list[Selected]:
    """Return the copies of a page, each with the name at its parent that it goes on from.

    A parent at which nothing will be (its copy failed, or it is no destination of this reference) is passed
    over in favour of its own parent.
    """
    names: dict[tuple[str, str, str], tuple[str, str, str]] = {}
    for found in in_place:
        wanted = found.wanted
        key = (found.registry, wanted.source_repository, wanted.source_reference)
        names.setdefault(key, (found.registry, wanted.repository, wanted.reference))
    for item in selected:
        if item.state is CopyState.PENDING:
            key = (item.destination_registry, item.source_repository, item.source_reference)
            names.setdefault(key, _name(item))

    def hop(item: Selected) -> Selected:
        parent = parents.get(item.destination_registry)
        while parent is not None:
            via = names.get((parent, item.source_repository, item.source_reference))
            if via is not None and via != _name(item):
                return replace(item, via=via)
            parent = parents.get(parent)
        return item

    return [hop(item) if item.state is CopyState.PENDING else item for item in selected]


def _name(item: Selected) -> tuple[str, str, str]:
    return (item.destination_registry, item.destination_repository, item.destination_reference)


Edges = Mapping[tuple[str, str], Edge]


def _edges(
    source: str,
    names: Sequence[str],
    region_of: Callable[[str], str],
    regions: frozenset[str],
    links: Iterable[Link],
) -> Edges:
    ways = {(link.source, link.target): link for link in links}
    unlinked = 1.0 + sum(link.cost_per_gib or 0.0 for link in ways.values())
    edges: dict[tuple[str, str], Edge] = {}
    for sender in (source, *names):
        for receiver in names:
            if sender == receiver:
                continue
            here, there = region_of(sender), region_of(receiver)
            link = ways.get((here, there))
            if here == there and here in regions:
                edges[sender, receiver] = Edge(0.0, PLENTY)
            elif link is not None:
                edges[sender, receiver] = Edge(link.cost_per_gib or 0.0, link.bandwidth or PLENTY)
            elif sender == source:
                edges[sender, receiver] = Edge(unlinked, PLENTY)
    return edges


def _cheapest(source: str, names: Sequence[str], edges: Edges) -> dict[str, str]:
    """Return a tree of least cost (Edmonds)."""
    import networkx as nx  # here: a quarter of a second, that only rules with several regions need

    graph = nx.DiGraph()
    graph.add_nodes_from([source, *names])
    graph.add_weighted_edges_from(
        (sender, receiver, edge.cost) for (sender, receiver), edge in edges.items()
    )
    tree = nx.minimum_spanning_arborescence(graph)
    return {receiver: sender for sender, receiver in tree.edges}


def _balanced(source: str, parents: Mapping[str, str], edges: Edges) -> dict[str, str]:
    """Return the best tree that costs the same: grown anew with ever wider forks, then climbed from there."""
    grown = [_grown(source, parents, edges, forks) for forks in range(1, WIDEST_FORK + 1)]
    trees = [dict(parents), *grown]
    if len(parents) <= MAX_CLIMBED:
        trees = [_climbed(source, tree, edges) for tree in trees]
    return min(trees, key=lambda tree: _judge(source, tree, edges))


def _grown(source: str, parents: Mapping[str, str], edges: Edges, forks: int) -> dict[str, str]:
    """Attach each destination at the cost that it has, nobody feeding more than `forks` where that can be."""
    grown: dict[str, str] = {}
    fed = dict.fromkeys((source, *parents), 0)
    while len(grown) < len(parents):
        sender, receiver = min(
            (
                (sender, receiver)
                for (sender, receiver), edge in edges.items()
                if receiver not in grown
                and (sender == source or sender in grown)
                and edge.cost == edges[parents[receiver], receiver].cost
            ),
            key=lambda pair: (
                fed[pair[0]] >= (1 if pair[0] == source else forks),
                -edges[pair].bandwidth,
                _depth(pair[0], grown),
                pair,
            ),
        )
        grown[receiver] = sender
        fed[sender] += 1
    return grown


def _climbed(source: str, parents: Mapping[str, str], edges: Edges) -> dict[str, str]:
    """Move destinations to other parents of the same cost while that makes the tree better."""
    best = dict(parents)
    judged = _judge(source, best, edges)
    while True:
        moves = (
            {**best, receiver: sender}
            for (sender, receiver), edge in sorted(edges.items())
            if sender != best[receiver]
            and edge.cost == edges[best[receiver], receiver].cost
            and not _is_below(sender, receiver, best)
        )
        found = min(
            ((_judge(source, move, edges), move) for move in moves), default=None, key=_first
        )
        if found is None or found[0] >= judged:
            return best
        judged, best = found


def _first(pair: tuple[tuple[float, ...], dict[str, str]]) -> tuple[float, ...]:
    return pair[0]


def _judge(source: str, parents: Mapping[str, str], edges: Edges) -> tuple[float, ...]:
    """Return how good a tree is, less is better."""
    seconds: dict[str, float] = {}
    for receiver, sender in parents.items():
        seconds[sender] = (
            seconds.get(sender, 0.0) + NOMINAL_BYTES / edges[sender, receiver].bandwidth
        )
    depths = [_depth(name, parents) for name in parents]
    fed_by_source = sum(sender == source for sender in parents.values())
    slowest = max(seconds.values(), default=0.0) + HOP_SECONDS * max(depths, default=0)
    return fed_by_source, slowest, sum(depths), sum(each * each for each in seconds.values())


def _depth(name: str, parents: Mapping[str, str]) -> int:
    depth = 0
    while name in parents:
        name, depth = parents[name], depth + 1
    return depth


def _is_below(name: str, top: str, parents: Mapping[str, str]) -> bool:
    """Whether `name` is `top`, or fed from it."""
    while name != top:
        if name not in parents:
            return False
        name = parents[name]
    return True


def _feeders(
    source: str, names: Sequence[str], parents: Mapping[str, str], edges: Edges
) -> dict[str, Feeders]:
    found: dict[str, Feeders] = {}
    for receiver in names:
        parent = parents[receiver]
        if parent == source:
            continue
        usual = edges[parent, receiver]
        others = sorted(
            (edge.cost, -edge.bandwidth, sender)
            for (sender, to), edge in edges.items()
            if to == receiver and sender not in (source, parent)
        )
        near = [
            name
            for cost, bandwidth, name in others
            if cost <= usual.cost and -bandwidth >= usual.bandwidth
        ]
        dearer = [name for _, _, name in others if name not in near]
        found[receiver] = Feeders((parent, *near), tuple(dearer))
    return found
