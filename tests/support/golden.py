"""What a release leaves behind in the middle of its work: a database and the messages in its queues.

    python -m tests.support.golden

writes both for the present revision to tests/fixtures/golden/REVISION, as text. They are written once, when
a revision is new, and never again: later releases are held to what this one left (tests/integration/
test_golden.py). Those of earlier revisions were written by the code of their time.
"""

from __future__ import annotations

import base64
import contextlib
import json
import socket
import sqlite3
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from api.samples.storage import digest_of
from service.bootstrap import Services
from service.model.endpoint import CredentialSpec, RegistryEndpoint
from service.model.work import CopyRef
from service.store.schema import HEAD
from tests.support.world import Party, World, a_rule, open_world, some_bytes
from workers.envelope import PREFIX
from workers.signatures import QueuePublisher

FOLDER = Path(__file__).parents[1] / "fixtures/golden"
KEY = base64.urlsafe_b64encode(b"golden, and not a secret of any.").decode()
PASSWORD = "a golden password"

IMAGES: dict[tuple[str, str], tuple[int, ...]] = {
    ("team/page", "v1"): (400, 500),  # in a page that nobody has taken
    ("team/page", "v2"): (400, 500),
    ("team/fanned", "v1"): (2000, 3000, 4000),  # its parts stand in the queue, as a chord
    ("team/placed", "v1"): (2500, 3500),  # its layers are through, its config and commit are not
    ("team/held", "v1"): (600, 700),  # a process holds it that will not come back
    ("team/fresh", "v1"): (800, 900),  # of an execution whose planning was only sent
}
"""What the release was copying: the sizes of each image's layers."""


def push_images(world: World) -> None:
    """Put the images to the source, the same bytes each time."""
    for repository, tag in IMAGES:
        world.push(repository, tag, _layers(repository, tag))


def put_what_was_placed(world: World) -> None:
    """Put to the destination what the release had copied there when it was interrupted."""
    for layer in _layers("team/placed", "v1"):
        world.west.storage.put_blob("mirror/team/placed", digest_of(layer), layer)


def _layers(repository: str, tag: str) -> list[bytes]:
    sizes = enumerate(IMAGES[repository, tag])
    return [some_bytes(f"{repository}:{tag}:{number}", size) for number, size in sizes]


# ---- reading -------------------------------------------------------------------------------------


def revisions() -> list[str]:
    """Return the revisions that a release has left something of."""
    return sorted(folder.name for folder in FOLDER.iterdir())


def load_database(revision: str, path: Path) -> None:
    """Make a SQLite file of what the release of a revision left; as if it had left it just now."""
    connection = sqlite3.connect(path)
    connection.executescript((FOLDER / revision / "database.sql").read_text("utf-8"))
    columns = {row[1] for row in connection.execute("PRAGMA table_info(executions)")}
    if "deadline_at" in columns:
        connection.execute("UPDATE executions SET deadline_at = strftime('%s', 'now') + 86400")
    connection.commit()
    connection.close()


def messages(revision: str) -> dict[str, list[str]]:
    """Return what stood in the queues, the newest first, as Redis has it."""
    found: dict[str, list[str]] = _queue(revision)["queues"]
    return found


def load_messages(revision: str, redis: Any) -> int:
    """Put the release's messages into the queues, and its chords' sizes; how many messages."""
    left = _queue(revision)
    for key, value in left["keys"].items():
        redis.set(PREFIX + key, value)
    for queue, texts in left["queues"].items():
        redis.rpush(PREFIX + queue, *texts)
    return sum(len(texts) for texts in left["queues"].values())


def _queue(revision: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((FOLDER / revision / "messages.json").read_text("utf-8"))
    return found


# ---- writing -------------------------------------------------------------------------------------


def write(target: Path) -> None:
    """Do a release's work to the middle, and write down what stands there."""
    target.mkdir(parents=True)
    with tempfile.TemporaryDirectory() as folder:
        with open_world(Path(folder)) as world:
            with _with_key(world, Path(folder)) as services:
                _govern(services, world)
            _work(world)
            queue = json.dumps(_messages(world), indent=1)
        lines = "\n".join(_dump(Path(folder) / "transship.db"))
    for text, place in ((queue, "messages.json"), (lines, "database.sql")):
        host = socket.gethostname()
        told = text.replace(f"@{host}", "@golden").replace(f"'{host}", "'golden")
        told = told.replace(folder, "/golden")
        for number, side in enumerate((world.east, world.west), 1):
            told = told.replace(side.url.removeprefix("http://"), f"127.0.0.1:{number}")
        (target / place).write_text(told + "\n", "utf-8")


@contextlib.contextmanager
def _with_key(world: World, folder: Path) -> Iterator[Services]:
    (folder / "keys").write_text(KEY + "\n")
    services = Services(replace(world.settings, secret_key_file=str(folder / "keys")))
    yield services
    services.close()


def _govern(services: Services, world: World) -> None:
    """Save what people write: rules, a password, a token, a secret, a webhook, and what is told of it."""
    rule = a_rule("team/*")
    services.rules.put(rule, document={"source": "east"})
    services.tokens.create("admin", "admin")
    credentials = CredentialSpec(username="robot", stored=True)
    services.registries.put(
        RegistryEndpoint("vault", "https://vault.example", credentials=credentials),
        document={"url": "https://vault.example"},
        secret=PASSWORD,
    )
    if not hasattr(services, "audit"):  # the first revision has no more
        return
    from service.store.audit import Change, append
    from service.store.database import write_beside

    for number in range(3):
        change = Change("admin", "replace", "secrets", f"s{number}", after={"hosts": ["a.example"]})
        write_beside(lambda connection, _result, change=change: append(connection, change))
        services.secrets.put(f"s{number}", PASSWORD, ["a.example"])
    services.hooks.create("east")


def _work(world: World) -> None:
    push_images(world)
    publisher = QueuePublisher(world.services.redis)
    services = Services(replace(world.settings, small_image_bytes=1000, small_blob_bytes=100))
    party = Party(services, publisher)  # type: ignore[arg-type]
    execution = world.plan(*sorted({place[0] for place in IMAGES} - {"team/fresh"}))
    refs = _refs(world, execution)
    publisher.replicate("local", [[refs["team/page", "v1"], refs["team/page", "v2"]]], urgent=False)
    fanned, placed = refs["team/fanned", "v1"], refs["team/placed", "v1"]
    for ref in (placed, fanned):
        party.replicate(ref)
    for part in range(2):
        party.copy_part(placed, part)
    publisher.commit("local", placed)
    publisher.part("local", fanned, 0, "00000000-0000-4000-8000-000000000000")
    assert services.state.begin([refs["team/held", "v1"]], services.boot)
    waiting = world.services.executions.create(a_rule("team/fresh", name="other"), trigger="api")
    publisher.plan(waiting.id)
    services.close()


def _refs(world: World, execution: str) -> dict[tuple[str, str], CopyRef]:
    sent = {ref.id: ref for ref in world.dispatch()}
    return {
        (copy.source_repository, copy.source_reference): sent[copy.id]
        for copy in world.copies(execution)
    }


def _messages(world: World) -> dict[str, Any]:
    redis = world.services.redis
    queues, keys = {}, {}
    for key in sorted(redis.scan_iter(PREFIX + "*")):
        name = key.decode().removeprefix(PREFIX)
        if redis.type(key) == b"list":
            queues[name] = [text.decode() for text in redis.lrange(key, 0, -1)]
        elif name.endswith(".s"):
            keys[name] = redis.get(key).decode()
    return {"queues": queues, "keys": keys}


def _dump(path: Path) -> Iterator[str]:
    connection = sqlite3.connect(path)
    yield from connection.iterdump()
    connection.close()


if __name__ == "__main__":
    place = Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER / HEAD
    write(place)
    print(f"wrote {place}")
