"""A server that says yes and does nothing: for columns that need nothing of a provider's own, where none can be missed.

A proof that passes at such a server would have looked at answers only. By column of Offers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

from api.samples.faults import FOREVER, FaultRule
from tests.contract.stands import Stand

JSON = {"Content-Type": "application/json"}
EMPTY_INDEX = (
    b'{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}'
)
INDEX = {"Content-Type": "application/vnd.oci.image.index.v1+json"}


def _lie(
    path: str, method: str, status: int, body: bytes, headers: Mapping[str, str], made: Stand
) -> FaultRule:
    """Have the registry answer such requests so, for good, without looking at them."""
    return made.registry.fault(
        path, method=method, status=status, body=body, headers=headers, times=FOREVER
    )


OF: Mapping[str, Callable[[Stand], FaultRule]] = {
    "auth": partial(_lie, "/manifests/", "PUT", 201, b"", {}),
    "listing": partial(_lie, "/_catalog", "GET", 200, b'{"repositories":[]}', JSON),
    "create": partial(_lie, "/manifests/", "PUT", 201, b"", {}),
    "push": partial(_lie, "/other/blobs/uploads/.*digest=", "PUT", 201, b"", {}),
    "pull": partial(_lie, "/manifests/", "GET", 200, EMPTY_INDEX, INDEX),
    "delete": partial(_lie, "/manifests/", "DELETE", 202, b"", {}),
    "mount": partial(_lie, r"/blobs/uploads/.*mount=", "POST", 201, b"", {}),
    "referrers": partial(_lie, "/referrers/", "GET", 200, EMPTY_INDEX, INDEX),
    "limits": partial(_lie, "/manifests/v1", "PUT", 201, b"", {}),
}
