"""Run one command, measured from outside; a program of its own, standard library only.

    python -I -S launch.py REPORT INTERVAL TIMEOUT COMMAND...

It adopts orphans of the command (PR_SET_CHILD_SUBREAPER), so the CPU time in the report is that of
every process the command ever started, Redis and workers included. Memory is the sum of the resident
sets of the whole tree, sampled every INTERVAL seconds by a thread of this process, whose own time is
not counted. Wall time is from just before the fork to the end of the command itself.
"""

import ctypes
import json
import os
import resource
import signal
import sys
import threading
import time

PAGE = os.sysconf("SC_PAGE_SIZE")
TICK = os.sysconf("SC_CLK_TCK")
ORPHANS_SECONDS = 10


def parents() -> dict[int, int]:
    """Process id -> parent's id, of all processes."""
    found = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                with open(f"/proc/{entry}/stat") as file:
                    found[int(entry)] = int(file.read().rpartition(")")[2].split()[1])
            except (OSError, ValueError, IndexError):
                pass
    return found


def descendants(root: int) -> list[int]:
    """All processes below `root`."""
    children = {}
    for pid, parent in parents().items():
        children.setdefault(parent, []).append(pid)
    found, todo = [], list(children.get(root, ()))
    while todo:
        pid = todo.pop()
        found.append(pid)
        todo += children.get(pid, ())
    return found


def name_of(pid: int) -> str:
    """What a process is: the module of a `python -m`, else the program's name."""
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            words = file.read().decode(errors="replace").split("\0")
    except OSError:
        return ""
    program = os.path.basename(words[0].split(" ")[0])
    if "-m" in words[:-1] and program.startswith("python"):
        return words[words.index("-m") + 1]
    if program.startswith("python") and len(words) > 1:
        return os.path.basename(words[1]) or program
    return program.rstrip(":")


def resident(pid: int) -> int:
    """Resident bytes; 0 when it is gone."""
    try:
        with open(f"/proc/{pid}/statm") as file:
            return int(file.read().split()[1]) * PAGE
    except (OSError, ValueError, IndexError):
        return 0


class Sampler(threading.Thread):
    """Peaks of the tree's memory, in all and for each kind of process."""

    def __init__(self, interval):
        super().__init__(daemon=True)
        self.interval = interval
        self.ended = threading.Event()
        self.peak = 0
        self.peaks = {}  # name -> highest of one process
        self.series = []  # seconds, bytes in all, and of the largest process of each kind
        self.began = time.monotonic()

    def run(self):
        names = {}
        pids = []
        rounds = 0
        while not self.ended.wait(self.interval):
            if rounds % 4 == 0:
                pids = descendants(os.getpid())
            rounds += 1
            total, kinds = 0, {}
            for pid in pids:
                size = resident(pid)
                total += size
                if size:
                    name = names.get(pid)
                    if not name or rounds < 40:  # a fork shows its parent's name until exec
                        name = names[pid] = name_of(pid)
                    self.peaks[name] = max(self.peaks.get(name, 0), size)
                    kinds[name] = max(kinds.get(name, 0), size)
            self.peak = max(self.peak, total)
            self.series.append((round(time.monotonic() - self.began, 2), total, kinds))


def kill_descendants():
    """SIGKILL everything below this process."""
    for pid in descendants(os.getpid()):
        try:
            os.kill(pid, signal.SIGKILL)
        except OSError:
            pass


def end_all(*_):
    """End with the bench, and everything with it."""
    kill_descendants()
    os._exit(1)


def main():
    report, interval, timeout = sys.argv[1], float(sys.argv[2]), float(sys.argv[3])
    command = sys.argv[4:]
    libc = ctypes.CDLL(None)
    libc.prctl(36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER
    signal.signal(signal.SIGTERM, end_all)
    libc.prctl(1, signal.SIGTERM, 0, 0, 0)  # PR_SET_PDEATHSIG: nothing outlives the bench
    sampler = Sampler(interval)
    began = time.monotonic()
    child = os.posix_spawnp(command[0], command, os.environ)
    sampler.start()
    timed_out = threading.Event()

    def strike():
        timed_out.set()
        kill_descendants()

    timer = threading.Timer(timeout, strike)
    timer.daemon = True
    timer.start()
    while True:
        pid, status, _ = os.wait4(-1, 0)
        if pid == child:
            break
    wall = time.monotonic() - began
    timer.cancel()
    sampler.ended.set()
    left = sorted({name_of(pid) for pid in descendants(os.getpid())})
    deadline = time.monotonic() + ORPHANS_SECONDS
    while True:  # orphans count; what does not end by itself is ended
        try:
            pid, _, _ = os.wait4(-1, os.WNOHANG)
        except ChildProcessError:
            break
        if pid == 0:
            if time.monotonic() > deadline:
                strike()
                deadline = time.monotonic() + ORPHANS_SECONDS
            time.sleep(0.01)
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    with open(report, "w") as file:
        json.dump(
            {
                "wall": wall,
                "user": used.ru_utime,
                "system": used.ru_stime,
                "exit_code": os.waitstatus_to_exitcode(status),
                "timed_out": timed_out.is_set(),
                "peak_rss": sampler.peak,
                "peak_rss_of": sampler.peaks,
                "series": sampler.series,
                "left_over": left,
            },
            file,
        )


if __name__ == "__main__":
    main()
