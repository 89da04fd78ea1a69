"""What a request needs a token for."""

from __future__ import annotations

from typing import Literal, NamedTuple


class Access(NamedTuple):
    """Repository and level; `mount_from` is a second repository that is only read.

    Of a ping and a catalog, the repository is a prefix: it says whose credentials are presented.
    """

    level: Literal["ping", "pull", "push", "delete", "catalog", "metadata"]
    repository: str = ""
    mount_from: str = ""

    def scopes(self, *, anonymous: bool) -> tuple[str, ...]:
        """Return the scopes to ask a token service for.

        Whoever has credentials asks for pull and push at once, so that one token serves all there
        is to do in a repository; a service that grants less just says less.
        """
        if self.level == "ping":
            return ()
        if self.level == "catalog":
            return ("registry:catalog:*",)
        if self.level == "metadata":  # Azure's, for its lists of tags
            return (f"repository:{self.repository}:metadata_read",)
        if self.level == "delete":
            return (f"repository:{self.repository}:pull,push,delete",)
        actions = "pull" if anonymous and self.level == "pull" else "pull,push"
        own = f"repository:{self.repository}:{actions}"
        if self.mount_from:
            return (own, f"repository:{self.mount_from}:pull")
        return (own,)


PING = Access("ping")
CATALOG = Access("catalog")
