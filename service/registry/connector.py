"""The one place that opens outgoing connections: addresses are judged, then that very one is used.

What an administrator wrote (a registry's own host, its trusted hosts) may be private; what a
registry names (redirect, realm, upload location) must be public. Metadata services never.
"""

from __future__ import annotations

import ipaddress
import socket
import ssl
import threading
from collections.abc import Callable, Sequence

from service.errors import AddressRefused, InvalidConfiguration, NetworkError, TLSError
from service.model.endpoint import RegistryEndpoint
from service.model.reference import DOCKER_HUB_ALIASES
from service.registry.origin import Origin, split_url
from service.registry.timeouts import Timeouts
from service.registry.tls_stream import Stream, TLSStream
from service.registry.tunnel import open_tunnel

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Resolver = Callable[[str, int], Sequence[str]]

# Where clouds hand credentials to whoever asks from the machine itself.
METADATA_ADDRESSES: frozenset[Address] = frozenset(
    ipaddress.ip_address(text)
    for text in (
        "169.254.169.254",  # AWS, GCP, Azure, OpenStack and more
        "169.254.170.2",  # AWS ECS
        "169.254.170.23",  # AWS EKS
        "100.100.100.200",  # Alibaba
        "192.0.0.192",  # Oracle
        "168.63.129.16",  # Azure wire server
        "fd00:ec2::254",
        "fd00:ec2::23",
        "fd20:ce::254",  # GCP
    )
)
_NAT64 = (ipaddress.ip_network("64:ff9b::/96"), ipaddress.ip_network("64:ff9b:1::/48"))
_V4_COMPATIBLE = ipaddress.ip_network("::/96")
_NEARER_HINT = "check `endpoints` of the registry, and that this region's network leads there"


def resolve_host(host: str, port: int) -> Sequence[str]:
    """Return the host's addresses in the system's order of preference; raises NetworkError."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise NetworkError(f"{host} cannot be resolved: {error}") from error
    return list(dict.fromkeys(str(item[4][0]) for item in found))


def unwrap(address: Address) -> Address:
    """Return the IPv4 address that an IPv6 one carries (mapped, 6to4, Teredo, NAT64), else itself."""
    if isinstance(address, ipaddress.IPv4Address):
        return address
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    if address.sixtofour is not None:
        return address.sixtofour
    if address.teredo is not None:
        return address.teredo[1]
    if any(address in network for network in _NAT64) or (
        address in _V4_COMPATIBLE and int(address) > 1
    ):
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address


def judge(address_text: str, *, trusted: bool, host: str) -> None:
    """Raise AddressRefused unless the address may be connected to.

    Rule: reference reliability S7. `trusted` says that an administrator wrote the host.
    """
    address = unwrap(ipaddress.ip_address(address_text.partition("%")[0]))
    if address in METADATA_ADDRESSES:
        raise AddressRefused(
            f"{host} leads to a metadata service's address: never connected to", hint=""
        )
    if trusted:
        return
    if not address.is_global or address.is_multicast or address.is_reserved:
        raise AddressRefused(f"{host}, which the registry names, leads to an address not public")


def registry_origin(url: str) -> Origin:
    """Return where a registry's API is: Docker Hub's names all lead to one host."""
    origin, _ = split_url(url)
    if origin.secure and origin.host in DOCKER_HUB_ALIASES:
        return Origin("https", "registry-1.docker.io", origin.port)
    return origin


def _place(origin: Origin, connect_to: str | None) -> Origin | None:
    """Return where the registry's own connections go in its place, if anywhere."""
    if connect_to is None:
        return None
    place, _ = split_url(f"{origin.scheme}://{connect_to}")
    return place


class Connector:
    """Opens connections for one registry: its own host, its trusted hosts, and what it names."""

    def __init__(
        self,
        endpoint: RegistryEndpoint,
        timeouts: Timeouts = Timeouts(),  # noqa: B008 - a frozen value
        *,
        resolve: Resolver = resolve_host,
    ) -> None:
        self._tls = endpoint.tls
        self._timeouts = timeouts
        self._resolve = self.resolver = resolve
        self.origin = registry_origin(endpoint.url)
        self.proxy = split_url(endpoint.proxy)[0] if endpoint.proxy else None
        self.place = _place(self.origin, endpoint.connect_to)
        self._trusted_hosts = frozenset(host.lower() for host in endpoint.trusted_hosts)
        self._contexts: dict[bool, ssl.SSLContext] = {}
        self._lock = threading.Lock()

    def is_trusted(self, origin: Origin) -> bool:
        """Whether an administrator wrote this host: the registry's own, or a trusted one."""
        return origin.host == self.origin.host or self.is_listed(origin)

    def is_listed(self, origin: Origin) -> bool:
        """Whether the host, or host:port, is one of the trusted hosts."""
        return (
            origin.host in self._trusted_hosts
            or origin.authority in self._trusted_hosts
            or f"{origin.host}:{origin.port}" in self._trusted_hosts
        )

    def check_scheme(self, origin: Origin) -> None:
        """Raise AddressRefused for plain http where the registry is spoken to over TLS."""
        if self.origin.secure and not origin.secure:
            raise AddressRefused(
                f"the registry sends from https to {origin}: refused, it would lay bytes open",
                hint="correct the registry's external address",
            )

    def connect(self, origin: Origin) -> Stream:
        """Open a connection with TCP_NODELAY, and TLS where the scheme says so.

        The registry's own go to its `connect_to`, where it has one: Host header, SNI and the
        certificate's name stay those of its URL, and no other host is ever reached that way.

        Raises AddressRefused, TLSError or NetworkError.
        """
        self.check_scheme(origin)
        trusted = self.is_trusted(origin)
        if self.place is not None and origin == self.origin:
            raw = self._connect(self.place, trusted=True, of=origin)
        elif self.proxy is None:
            raw = self._connect(origin, trusted=trusted)
        else:
            raw = self._by_proxy(self.proxy, origin, trusted=trusted)
        try:
            stream: Stream = self._secure(raw, origin) if origin.secure else raw
            stream.settimeout(self._timeouts.read_seconds)
        except BaseException:
            raw.close()
            raise
        return stream

    def target(self, origin: Origin, target: str) -> str:
        """Return a request's target as it is written: absolute where a proxy reads it."""
        if self.proxy is None or origin.secure:
            return target
        return f"{origin}{target}"

    def _connect(self, origin: Origin, *, trusted: bool, of: Origin | None = None) -> socket.socket:
        """Connect to a host; `of` is the registry that it stands for, where it is its `connect_to`."""
        try:
            addresses = self._resolve(origin.host, origin.port)
            for address in addresses:
                judge(address, trusted=trusted, host=origin.host)
            return self._open(origin, addresses)
        except NetworkError as error:
            if of is None:
                raise
            message = f"{of} cannot be connected to by connect_to: {error.message}"
            raise NetworkError(message, hint=_NEARER_HINT) from error

    def _by_proxy(self, proxy: Origin, origin: Origin, *, trusted: bool) -> socket.socket:
        """Connect by way of the proxy, which an administrator wrote and which may be private.

        Names that are no trusted ones are judged by what they resolve to here; those that only the
        proxy can resolve are left to it.
        """
        try:
            addresses = self._resolve(origin.host, origin.port)
        except NetworkError:
            addresses = ()
        for address in addresses:
            judge(address, trusted=trusted, host=origin.host)
        raw = self._connect(proxy, trusted=True)
        if origin.secure:
            try:
                open_tunnel(raw, proxy, origin, self._timeouts.connect_seconds)
            except BaseException:
                raw.close()
                raise
        return raw

    def _open(self, origin: Origin, addresses: Sequence[str]) -> socket.socket:
        failure: OSError | None = None
        for address in addresses:
            try:
                raw = socket.create_connection(
                    (address, origin.port), self._timeouts.connect_seconds
                )
            except OSError as error:
                failure = error
                continue
            raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            return raw
        reason = failure or "the name has no address"
        raise NetworkError(f"{origin} cannot be connected to: {reason}") from failure

    def _secure(self, raw: socket.socket, origin: Origin) -> TLSStream:
        context = self._context(own=origin == self.origin)
        try:
            return TLSStream(raw, context, origin.host)
        except ssl.SSLCertVerificationError as error:
            raise TLSError(f"{origin}: certificate refused: {error.verify_message}") from error
        except ssl.SSLError as error:
            raise TLSError(
                f"{origin}: no TLS: {error.reason or error}",
                hint="if the registry speaks plain http, write http:// in its url",
            ) from error
        except OSError as error:
            raise NetworkError(f"{origin}: the TLS handshake failed: {error}") from error

    def _context(self, *, own: bool) -> ssl.SSLContext:
        """One context for the registry itself, one for all other hosts.

        Only the registry sees the client certificate, only it is spared verification by `insecure`.
        """
        with self._lock:
            context = self._contexts.get(own)
            if context is None:
                context = self._contexts[own] = self._make_context(own=own)
            return context

    def _make_context(self, *, own: bool) -> ssl.SSLContext:
        context = ssl.create_default_context()
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_alpn_protocols(["http/1.1"])
        if self._tls.ca_file:
            try:
                context.load_verify_locations(cafile=self._tls.ca_file)
            except (OSError, ssl.SSLError) as error:
                raise InvalidConfiguration(
                    f"tls.ca_file {self._tls.ca_file}: {error}", field="tls.ca_file"
                ) from error
        if own and self._tls.client_cert_file:
            try:
                context.load_cert_chain(self._tls.client_cert_file, self._tls.client_key_file)
            except (OSError, ssl.SSLError) as error:
                raise InvalidConfiguration(
                    f"tls.client_cert_file {self._tls.client_cert_file}: {error}",
                    field="tls.client_cert_file",
                ) from error
        if own and self._tls.insecure:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        return context
