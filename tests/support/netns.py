"""A network namespace for one process of the product, whose packets can be lost: rows F140-F143.

    with Namespace() as far:
        lab.address = far.host            # servers listen where the namespace reaches them
        lab.launchers["worker"] = far.launcher
        far.cut(lab.west.port)            # both ways
        assert far.dropped() > 0
        far.heal()

Made of a veth pair and iptables within the namespace, so that nothing else of the machine is touched. Only
root may make one: `Namespace.why_not()` says what is missing.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from pathlib import Path
from typing import Self

from tests.support.processes import wait_until

_HOSTS = "127.0.0.1 localhost\n"


def _run(*words: str, check: bool = True) -> str:
    done = subprocess.run(words, check=False, capture_output=True, text=True)
    if check and done.returncode:
        raise RuntimeError(f"{' '.join(words)}: {done.stderr.strip() or done.returncode}")
    return done.stdout


class Namespace:
    """One namespace with one link to here; `host` and `second` are our addresses on it."""

    def __init__(self) -> None:
        number = os.getpid()
        self.name = f"transship{number}"
        self._here, self._there = f"tsh{number}"[:15], f"tst{number}"[:15]
        prefix = f"10.213.{number % 250}"
        self.host, self.second, self._far = f"{prefix}.1", f"{prefix}.2", f"{prefix}.3"
        self._etc = Path("/etc/netns") / self.name

    @staticmethod
    def why_not() -> str:
        """Why there can be no namespace here; empty where there can."""
        for program in ("ip", "iptables", "tc"):
            if shutil.which(program) is None:
                return f"{program} is not installed"
        if os.geteuid() != 0:
            return "only root may make network namespaces"
        name = f"transship-try{os.getpid()}"
        try:
            _run("ip", "netns", "add", name)
            try:
                _run("ip", "netns", "exec", name, "iptables", "-nL")
            finally:
                _run("ip", "netns", "delete", name)
        except RuntimeError as error:
            return str(error)
        return ""

    @property
    def launcher(self) -> list[str]:
        """The words before a command that is to run inside."""
        return ["ip", "netns", "exec", self.name]

    def __enter__(self) -> Self:
        try:
            self._etc.mkdir(parents=True)
            (self._etc / "hosts").write_text(_HOSTS)
            _run("ip", "netns", "add", self.name)
            _run(*f"ip link add {self._here} type veth peer name {self._there}".split())
            _run(*f"ip link set {self._there} netns {self.name}".split())
            for address in (self.host, self.second):
                _run(*f"ip addr add {address}/24 dev {self._here}".split())
            _run(*f"ip link set {self._here} up".split())
            self._inside(f"ip addr add {self._far}/24 dev {self._there}")
            self._inside(f"ip link set {self._there} up")
            self._inside("ip link set lo up")
            self._inside(f"ip route add default via {self.host}")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        _run("ip", "netns", "delete", self.name, check=False)
        _run("ip", "link", "delete", self._here, check=False)
        shutil.rmtree(self._etc, ignore_errors=True)
        with contextlib.suppress(OSError):
            self._etc.parent.rmdir()

    def _inside(self, words: str) -> str:
        return _run(*self.launcher, *words.split())

    # ---- faults ----------------------------------------------------------------------------------

    def cut(self, port: int, *, answers_only: bool = False) -> None:
        """Lose what goes to a port of ours and what comes from it, or only what comes."""
        if not answers_only:
            self._inside(f"iptables -A OUTPUT -p tcp --dport {port} -j DROP")
        self._inside(f"iptables -A INPUT -p tcp --sport {port} -j DROP")

    def forget(self, port: int) -> int:
        """Lose what belongs to the connections to a port that are open now; how many there are."""
        lines = self._inside(f"ss -Htn state established dport = :{port}").splitlines()
        for line in lines:
            own = line.split()[2].rpartition(":")[2]
            self._inside(f"iptables -A OUTPUT -p tcp --sport {own} --dport {port} -j DROP")
            self._inside(f"iptables -A INPUT -p tcp --dport {own} --sport {port} -j DROP")
        return len(lines)

    def lose(self, port: int, share: float) -> None:
        """Lose a share of the packets to and from a port, at random."""
        some = f"-m statistic --mode random --probability {share} -j DROP"
        self._inside(f"iptables -A OUTPUT -p tcp --dport {port} {some}")
        self._inside(f"iptables -A INPUT -p tcp --sport {port} {some}")

    def watch(self, address: str) -> None:
        """Count, and lose, whatever goes to an address."""
        self._inside(f"iptables -A OUTPUT -d {address} -j DROP")

    def narrow(self, bits: str) -> None:
        """Let so many bits a second ("1mbit") through in each direction."""
        shape = f"root tbf rate {bits} burst 16kb latency 400ms"
        self._inside(f"tc qdisc add dev {self._there} {shape}")
        _run(*f"tc qdisc add dev {self._here} {shape}".split())

    def dropped(self) -> int:
        """How many packets were lost since the last `heal`."""
        lines = self._inside("iptables -nvxL").splitlines()
        return sum(int(line.split()[0]) for line in lines if " DROP " in line)

    def wait_for_a_loss(self) -> None:
        """Wait until a packet was lost."""
        wait_until(self.dropped, 20, "a packet to be lost")

    def heal(self) -> None:
        """Lose nothing any more."""
        self._inside("iptables -F")
        for words in (
            [*self.launcher, "tc", "qdisc", "del", "dev", self._there, "root"],
            ["tc", "qdisc", "del", "dev", self._here, "root"],
        ):
            _run(*words, check=False)

    def name_is(self, name: str, address: str) -> None:
        """Have a name lead to an address inside, from the next look-up on."""
        with (self._etc / "hosts").open("r+") as file:  # in place: the file is mounted
            file.truncate()
            file.write(f"{_HOSTS}{address} {name}\n")
