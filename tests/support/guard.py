"""What a sample registry asks for that knows several robots, and counts what each of them pulls."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from api.samples.auth import basic_credentials
from api.samples.http_messages import Request
from api.samples.manifests import ApiError

QUOTA = "TOOMANYREQUESTS"


@dataclass
class Guard:
    """A registry's robots, each for its namespaces, and what is left of their quotas.

    The password of a robot is its name with `word` behind it.
    """

    robots: Mapping[str, tuple[str, ...]]  # "": what anybody may read
    left: dict[str, int] = field(default_factory=dict)
    code: str = QUOTA
    headers: Mapping[str, str] = field(default_factory=dict)
    seen: list[tuple[str, str]] = field(default_factory=list)  # user, repository

    def check(self, request: Request, resource: str, action: str) -> None:
        """See api.samples.auth.Auth."""
        user = self._user(request)
        repository = resource.removeprefix("repository:") if ":" in resource else ""
        self.seen.append((user, repository))
        if not self.allows(request, resource, action):
            raise ApiError(401, "UNAUTHORIZED", headers={"WWW-Authenticate": 'Basic realm="r"'})
        if repository and user in self.left:
            if self.left[user] == 0:
                raise ApiError(429, self.code, headers=dict(self.headers))
            self.left[user] -= 1

    def allows(self, request: Request, resource: str, action: str) -> bool:
        """See api.samples.auth.Auth."""
        found = basic_credentials(request)
        user = self._user(request)
        if found is not None and found[1] != f"{user} word":
            return False
        mine = self.robots.get(user)
        repository = resource.removeprefix("repository:")
        if mine is None:
            return False
        whole = "repository:" not in resource
        return bool(user) if whole else any(repository.startswith(name) for name in mine)

    def _user(self, request: Request) -> str:
        found = basic_credentials(request)
        return "" if found is None else found[0]

    def users_of(self, repository: str) -> set[str]:
        """Who was presented for a repository, nobody (before the challenge) left out."""
        return {user for user, name in self.seen if name == repository and user}
