"""The data directory of one machine's engine: who holds it, and where everything in it is."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import IO, Any

from service.errors import EngineError
from service.store.keyring import write_new_key

RUN_PREFIX = "transship-run-"


class DataDir:
    """A directory that one engine holds at a time."""

    def __init__(self, path: Path | None) -> None:
        """None: a temporary one, removed at the end."""
        self.temporary = path is None
        self.path = Path(tempfile.mkdtemp(prefix="transship-")) if path is None else path.resolve()
        self._run: Path | None = None
        self._lock: IO[str] | None = None

    def acquire(self, command: str) -> None:
        """Hold the directory. Raises EngineError, saying who holds it, when another engine runs."""
        try:
            self.path.mkdir(parents=True, exist_ok=True, mode=0o700)
            lock = (self.path / "engine.lock").open("a+", encoding="utf-8")
        except OSError as error:
            raise EngineError(
                f"{self.path} cannot be used: {error.strerror}", hint="choose another --data"
            ) from None
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            holder = self.holder()
            lock.close()
            raise EngineError(
                f"{self.path} is held by `transship {holder.get('command', '?')}` "
                f"(process {holder.get('pid', '?')})",
                hint="wait for it, stop it, or use another --data",
            ) from None
        self._lock = lock
        self.note(command=command, pid=os.getpid())
        self.logs.mkdir(exist_ok=True)
        write_new_key(self.key_file)
        # A unix socket's path may have 107 bytes at most, so it does not live in here.
        _sweep_runs()
        self._run = Path(tempfile.mkdtemp(prefix=f"{RUN_PREFIX}{os.getpid()}-"))

    def note(self, **facts: Any) -> None:
        """Add facts to what others may read about the engine that holds the directory."""
        known = self.holder() if self._lock is not None and "pid" not in facts else {}
        text = json.dumps({**known, **facts})
        temporary = self.path / "engine.json.new"
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(self.path / "engine.json")

    def holder(self) -> dict[str, Any]:
        """Return what the present or last engine noted about itself."""
        try:
            facts = json.loads((self.path / "engine.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return facts if isinstance(facts, dict) else {}

    def release(self) -> None:
        """Let the directory go; a temporary one is removed."""
        if self._run is not None:
            shutil.rmtree(self._run, ignore_errors=True)
        if self._lock is not None:
            self._lock.close()
            self._lock = None
        if self.temporary:
            shutil.rmtree(self.path, ignore_errors=True)

    @property
    def database_url(self) -> str:
        """The SQLite database."""
        return f"sqlite:///{self.path / 'transship.db'}"

    @property
    def redis_socket(self) -> Path:
        """The embedded Redis's socket."""
        if self._run is None:
            raise RuntimeError("the directory is not held")
        return self._run / "redis.sock"

    @property
    def key_file(self) -> Path:
        """The keys of secrets at rest."""
        return self.path / "secret.keys"

    @property
    def token_file(self) -> Path:
        """The admin token of `transship up`."""
        return self.path / "admin.token"

    @property
    def logs(self) -> Path:
        """Logs of the child processes."""
        return self.path / "logs"


def _sweep_runs() -> None:
    """Remove the socket folders of engines that were killed."""
    for folder in Path(tempfile.gettempdir()).glob(f"{RUN_PREFIX}*-*"):
        pid = folder.name.removeprefix(RUN_PREFIX).partition("-")[0]
        if pid.isdigit() and not Path(f"/proc/{pid}").exists():
            shutil.rmtree(folder, ignore_errors=True)
