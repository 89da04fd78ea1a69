"""A strict OCI registry in memory: for `transship demo`, for tests, for benchmarks.

    with SampleRegistry() as registry:
        print(registry.url)

or as a process: `python -m api.samples.registry --listen 127.0.0.1:0 --ready-file F`.
It serves the OCI distribution specification 1.1 and keeps nothing when it ends.
"""

from __future__ import annotations

import argparse
import signal
import ssl
import sys
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, Self

from api.samples.auth import Auth, BasicAuth, BearerAuth, TokenService
from api.samples.distribution import DistributionApi
from api.samples.faults import FaultPlan, FaultRule
from api.samples.http_messages import Access, Request, Response, WireFault
from api.samples.http_server import HttpServer
from api.samples.profiles import DISTRIBUTION_2, OCI_1_1, PROFILES, Profile
from api.samples.storage import Storage

__all__ = [
    "DISTRIBUTION_2",
    "OCI_1_1",
    "Access",
    "BasicAuth",
    "BearerAuth",
    "FaultRule",
    "Profile",
    "SampleRegistry",
    "TokenService",
    "WireFault",
    "main",
]

_HOLD_SECONDS: Final = 120.0


class SampleRegistry:
    """One registry on one port; listens from construction, serves between `start` and `close`.

    `storage`, `faults`, `api` (its switches) and `log` (a list of Access) may be looked at and changed
    while it runs.
    """

    def __init__(
        self,
        *,
        listen: tuple[str, int] = ("127.0.0.1", 0),
        profile: Profile = OCI_1_1,
        referrers_api: bool | None = None,
        auth: Auth | None = None,
        redirect_blobs: bool = False,
        absolute_locations: bool = False,
        chunk_minimum: int = 0,
        tag_page: int | None = None,
        tls: ssl.SSLContext | None = None,
        server_name: str = "",
        access_log: Path | None = None,
    ) -> None:
        if referrers_api is not None:
            profile = replace(profile, referrers_api=referrers_api)
        self.profile = profile
        self.storage = Storage()
        self.faults = FaultPlan()
        self._log_file = access_log.open("a", buffering=1) if access_log else None
        self._server = HttpServer(
            self._handle,
            listen,
            tls=tls,
            server_name=server_name,
            on_access=self._write_log if access_log else None,
        )
        self._cdn = HttpServer(self._handle_cdn, (listen[0], 0), tls=tls, server_name=server_name)
        self.url = self._server.url
        self.host = self._server.authority
        self.port = self._server.port
        if isinstance(auth, BearerAuth) and not auth.realm:
            auth.realm = f"{self.url}/token"
        self.api = DistributionApi(
            self.storage,
            profile,
            base=self.url if absolute_locations else "",
            blob_base=self._cdn.url,
            auth=auth,
            chunk_minimum=chunk_minimum,
            tag_page=tag_page,
            blobs_redirected=redirect_blobs,
        )

    # life

    def start(self) -> Self:
        """Begin to serve."""
        self._server.start()
        self._cdn.start()
        return self

    def close(self) -> None:
        """Stop; everything it held is gone with it."""
        self.faults.clear()
        self._server.close()
        self._cdn.close()
        if self._log_file is not None:
            self._log_file.close()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def log(self) -> list[Access]:
        """Every request so far; a request is here before its answer arrives."""
        return self._server.log

    @property
    def log_kept(self) -> bool:
        """Whether requests are kept in `log`."""
        return self._server.keep_log

    @log_kept.setter
    def log_kept(self, value: bool) -> None:
        self._server.keep_log = value

    @property
    def cdn_log(self) -> list[Access]:
        """Requests at the blob host that `redirect_blobs` names."""
        return self._cdn.log

    @property
    def cdn_host(self) -> str:
        """Host and port of the blob host."""
        return self._cdn.authority

    @property
    def connections(self) -> int:
        """How many connections clients have opened."""
        return self._server.connections

    def cut_connections(self) -> None:
        """Reset all open connections."""
        self._server.cut_connections()

    def fault(self, path: str = "", **options: Any) -> FaultRule:
        """Add a fault rule; see FaultRule for the options."""
        return self.faults.add(FaultRule(path, **options))

    def _write_log(self, access: Access) -> None:
        if self._log_file is not None:
            fields = (access.method, access.path, access.status, access.bytes, access.received)
            self._log_file.write("\t".join(map(str, fields)) + "\n")

    # requests

    def _handle(self, request: Request) -> Response:
        rule = self.faults.strike(request)
        if rule is None:
            return self.api.answer(request)
        if rule.before is not None:
            rule.before(request)
        if rule.hold is not None:
            rule.hold.wait(_HOLD_SECONDS)
        request.body.reset_at = rule.reset_request_at
        if rule.status is not None:
            response = Response(rule.status)
        else:
            response = self.api.answer(request, mountable=not rule.refuse_mount)
        rule.apply(response)
        if rule.forget_upload and "Docker-Upload-UUID" in response.headers:
            self.storage.forget_upload(response.headers["Docker-Upload-UUID"])
        if rule.after is not None:
            rule.after(request, response)
        return response

    def _handle_cdn(self, request: Request) -> Response:
        rule = self.faults.strike(request)
        if rule is not None and rule.status is not None:
            response = Response(rule.status)
        else:
            response = self.api.answer_blob_host(request)
        if rule is not None:
            rule.apply(response)
        return response


def main(arguments: list[str] | None = None) -> int:
    """Serve until SIGINT or SIGTERM."""
    parser = argparse.ArgumentParser(prog="api.samples.registry", description=__doc__)
    parser.add_argument(
        "--listen", default="127.0.0.1:0", help="host:port; port 0 takes a free one"
    )
    parser.add_argument("--ready-file", type=Path, help="written with the address once it serves")
    parser.add_argument("--access-log", type=Path, help="tab-separated lines are appended here")
    parser.add_argument("--profile", choices=sorted(PROFILES), default=OCI_1_1.name)
    parser.add_argument("--fleet", action="store_true", help="hold the demo's sample fleet")
    options = parser.parse_args(arguments)
    host, _, port = options.listen.rpartition(":")
    stopped = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopped.set())
    registry = SampleRegistry(
        listen=(host.strip("[]"), int(port)),
        profile=PROFILES[options.profile],
        access_log=options.access_log,
    )
    registry.log_kept = False
    with registry:
        if options.fleet:
            from api.samples.fleet import push_fleet
            from api.samples.fleet_plan import DEMO_FLEET

            push_fleet(registry.url, DEMO_FLEET)
        if options.ready_file is not None:
            partial = options.ready_file.with_name(options.ready_file.name + ".partial")
            partial.write_text(registry.url + "\n")
            partial.replace(options.ready_file)
        sys.stdout.write(f"serving on {registry.url}\n")
        sys.stdout.flush()
        stopped.wait()
    return 0


if __name__ == "__main__":
    sys.exit(main())
