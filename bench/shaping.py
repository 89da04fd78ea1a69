"""Links with delay and bandwidth, in user space: a relay of the bench's own, one process.

    python -I -S shaping.py '[{"listen": 0, "to": ["127.0.0.1", 5000], "delay": 0.04, ...}]'

Each direction of each connection delays every byte by `delay` seconds and passes at most
`bytes_per_second`; a new connection costs one round trip more before its first byte, as a handshake
would. `shared_bytes_per_second` is a cap over all connections of a link, one for each direction: an
uplink, before which at most QUEUE_SECONDS of bytes stand in line: who has more to send is not read from
meanwhile. No loss, no slow start; a window of WINDOW bytes is in flight at most.
"""

from __future__ import annotations

import collections
import heapq
import json
import selectors
import socket
import subprocess
import sys
import time

WINDOW = 4 << 20
PIECE = 64 << 10
QUEUE_SECONDS = 0.1
"""What a router's buffer holds. Without a bound every small answer would stand behind windows of all transfers."""


class Bucket:
    """A cap of bytes a second: when the next piece may have passed."""

    def __init__(self, rate):
        self.rate = rate
        self.free_at = 0.0

    def passes(self, now, count):
        """The time at which `count` bytes have gone through."""
        if not self.rate:
            return now
        self.free_at = max(self.free_at, now) + count / self.rate
        return self.free_at

    def opens_at(self):
        """The time from which on there is room in the line."""
        return self.free_at - QUEUE_SECONDS if self.rate else 0.0


class Way:
    """One direction of one connection."""

    def __init__(self, loop, source, sink, link, shared, opened):
        self.loop, self.source, self.sink = loop, source, sink
        self.delay = link["delay"]
        self.own, self.shared = Bucket(link.get("bytes_per_second", 0)), shared
        self.opened = opened  # no byte arrives before the handshake
        self.pieces = collections.deque()  # due, bytes (b"" is the end)
        self.waiting = 0
        self.reading = True
        self.writing = False
        self.blocked = b""
        self.ended = False
        self.called = False  # a timer will look whether there is room

    def read(self):
        try:
            data = self.source.recv(PIECE)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            data = b""
        now = time.monotonic()
        due = self.shared.passes(self.own.passes(max(now, self.opened), len(data)), len(data))
        due += self.delay
        if self.pieces:
            due = max(due, self.pieces[-1][0])
        self.pieces.append((due, data))
        self.waiting += len(data)
        if not data:
            self.ended = True
        self.loop.at(due, self)
        self.loop.watch(self.source)

    def wants_to_read(self):
        if self.ended or self.waiting >= WINDOW:
            return False
        opens = max(self.own.opens_at(), self.shared.opens_at())
        if opens <= time.monotonic():
            return True
        if not self.called:
            self.called = True
            self.loop.call(opens, self)
        return False

    def look(self):
        """There may be room."""
        self.called = False
        self.loop.watch(self.source)

    def flush(self):
        """Write what is due."""
        now = time.monotonic()
        while self.pieces and (self.blocked or self.pieces[0][0] <= now):
            data = self.blocked or self.pieces[0][1]
            if not data:
                self.pieces.popleft()
                try:
                    self.sink.shutdown(socket.SHUT_WR)
                except OSError:
                    pass
                self.loop.half_closed(self)
                return
            try:
                sent = self.sink.send(data)
            except (BlockingIOError, InterruptedError):
                sent = 0
            except OSError:
                self.loop.drop(self)
                return
            self.waiting -= sent
            if sent < len(data):
                self.blocked = memoryview(data)[sent:]
                self.writing = True
                self.loop.watch(self.sink)
                self.loop.watch(self.source)
                return
            self.blocked = b""
            self.pieces.popleft()
        if self.writing:
            self.writing = False
            self.loop.watch(self.sink)
        if self.pieces:
            self.loop.at(self.pieces[0][0], self)
        self.loop.watch(self.source)


class Loop:
    """All links of this process."""

    def __init__(self, links):
        self.selector = selectors.DefaultSelector()
        self.timers = []
        self.count = 0
        self.out = {}  # socket -> Way that reads from it
        self.into = {}  # socket -> Way that writes to it
        self.ports = []
        for link in links:
            listener = socket.create_server(("127.0.0.1", link.get("listen", 0)), backlog=1024)
            listener.setblocking(False)
            shared = [Bucket(link.get("shared_bytes_per_second", 0)) for _ in range(2)]
            self.selector.register(listener, selectors.EVENT_READ, (link, shared))
            self.ports.append(listener.getsockname()[1])

    def at(self, due, way):
        self.count += 1
        heapq.heappush(self.timers, (due, self.count, way, False))

    def call(self, due, way):
        """Have a way look whether there is room, then."""
        self.count += 1
        heapq.heappush(self.timers, (due, self.count, way, True))

    def watch(self, sock):
        """Ask the selector for what the two ways of a socket want."""
        if sock not in self.out:
            return
        events = 0
        if self.out[sock].wants_to_read():
            events |= selectors.EVENT_READ
        if self.into[sock].writing:
            events |= selectors.EVENT_WRITE
        key = self.selector.get_map().get(sock)
        if events and key is None:
            self.selector.register(sock, events)
        elif events and key.events != events:
            self.selector.modify(sock, events)
        elif not events and key is not None:
            self.selector.unregister(sock)

    def accept(self, listener, link, shared):
        try:
            client, _ = listener.accept()
        except OSError:
            return
        try:
            server = socket.create_connection(tuple(link["to"]), 10)
        except OSError:
            client.close()
            return
        for sock in (client, server):
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        opened = time.monotonic() + 2 * link["delay"]
        up = Way(self, client, server, link, shared[0], opened)
        down = Way(self, server, client, link, shared[1], opened)
        self.out[client], self.into[server] = up, up
        self.out[server], self.into[client] = down, down
        self.watch(client)
        self.watch(server)

    def half_closed(self, way):
        other = self.into.get(way.source)
        if other is not None and other.ended and not other.pieces:
            self.drop(way)
        else:
            self.watch(way.source)

    def drop(self, way):
        for sock in (way.source, way.sink):
            if sock in self.out:
                if self.selector.get_map().get(sock) is not None:
                    self.selector.unregister(sock)
                del self.out[sock], self.into[sock]
                sock.close()

    def run(self):
        while True:
            pause = max(0.0, self.timers[0][0] - time.monotonic()) if self.timers else 1.0
            for key, events in self.selector.select(pause):
                if key.data is not None:
                    self.accept(key.fileobj, *key.data)
                    continue
                if events & selectors.EVENT_WRITE and key.fileobj in self.into:
                    self.into[key.fileobj].flush()
                if events & selectors.EVENT_READ and key.fileobj in self.out:
                    self.out[key.fileobj].read()
            now = time.monotonic()
            while self.timers and self.timers[0][0] <= now:
                _, _, way, looks = heapq.heappop(self.timers)
                if looks:
                    way.look()
                elif way.sink in self.into and not way.writing:
                    way.flush()


class Link:
    """What a link is like: seconds each way, bytes a second a connection and in all."""

    def __init__(self, delay=0.0, bytes_per_second=0, shared_bytes_per_second=0):
        self.delay = delay
        self.bytes_per_second = bytes_per_second
        self.shared_bytes_per_second = shared_bytes_per_second

    def describe(self):
        """In words."""
        words = [f"{self.delay * 1000:g} ms each way"]
        if self.bytes_per_second:
            words.append(f"{self.bytes_per_second / 1e6:g} MB/s a connection and direction")
        if self.shared_bytes_per_second:
            words.append(f"{self.shared_bytes_per_second / 1e6:g} MB/s a direction in all")
        return ", ".join(words)


class Shaper:
    """The relay as a child process; give it links with `before`, then `start`."""

    def __init__(self):
        self.links = []
        self.process = None

    def before(self, url, link):
        """Have a link in front of http://host:port; its URL."""
        host, _, port = url.partition("://")[2].partition(":")
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            listen = probe.getsockname()[1]
        self.links.append({"listen": listen, "to": [host, int(port)], **vars(link)})
        return f"{url.partition(':')[0]}://127.0.0.1:{listen}"

    def start(self):
        """Begin to relay."""
        command = [sys.executable, "-I", "-S", __file__, json.dumps(self.links)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, start_new_session=True)
        if not self.process.stdout.readline():
            raise RuntimeError("the shaping relay did not start")

    @property
    def pid(self):
        return self.process.pid

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process.stdout.close()


def main():
    import ctypes
    import gc
    import resource
    import signal

    ctypes.CDLL(None).prctl(1, signal.SIGKILL, 0, 0, 0)
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    loop = Loop(json.loads(sys.argv[1]))
    print(json.dumps(loop.ports), flush=True)
    gc.freeze()
    loop.run()


if __name__ == "__main__":
    main()
