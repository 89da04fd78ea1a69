"""Push subscriptions of Google Cloud Pub/Sub to the topic `gcr`, into which Google's registries tell of pushes.

Sources: "Configure Pub/Sub notifications" of Artifact Registry; Pub/Sub's REST reference, projects.topics.create and
projects.subscriptions (create, get, modifyPushConfig, delete).
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import quote

from service.registry.providers.strategies import Receiver

if TYPE_CHECKING:
    from service.registry.providers.gar import Gar

PUBSUB_URL = "https://pubsub.googleapis.com"
TOPIC = "gcr"
ACK_SECONDS = 30


class GarSubscriptions:
    """One subscription a project and receiver."""

    def __init__(self, pubsub: Gar) -> None:
        """`pubsub` asks Pub/Sub as the identity that Artifact Registry is asked as."""
        self._pubsub = pubsub

    def place(self, repository: str) -> str:
        """Return the project."""
        return repository.partition("/")[0]

    def register(self, place: str, receiver: Receiver) -> bool:
        """Make topic and subscription, or give the subscription the right address; raises Denied."""
        config = {"pushEndpoint": receiver.with_secret}
        path = _subscription(place, receiver)
        found = self._pubsub.ask("GET", path, accept=(200, 404))
        if found.status == 404:
            topic = f"projects/{place}/topics/{TOPIC}"
            self._pubsub.ask("PUT", f"/v1/{quote(topic)}", body={}, accept=(200, 409))
            wanted = {"topic": topic, "pushConfig": config, "ackDeadlineSeconds": ACK_SECONDS}
            self._pubsub.ask("PUT", path, body=wanted, accept=(200, 409))
            return True
        told = found.value.get("pushConfig") if isinstance(found.value, dict) else None
        if isinstance(told, dict) and told.get("pushEndpoint") == config["pushEndpoint"]:
            return False
        self._pubsub.ask("POST", f"{path}:modifyPushConfig", body={"pushConfig": config})
        return True

    def remove(self, place: str, receiver: Receiver) -> bool:
        """Remove the subscription; the topic stays, others may listen to it."""
        path = _subscription(place, receiver)
        return self._pubsub.ask("DELETE", path, accept=(200, 404)).status == 200


def _subscription(project: str, receiver: Receiver) -> str:
    return f"/v1/projects/{quote(project, safe='')}/subscriptions/{quote(receiver.name, safe='')}"
