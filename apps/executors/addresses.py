"""Which network addresses a step may not reach: everything but the public internet, in every spelling of it.

Judges the numeric address that a connection is really made to, never a name or a URL: whatever a name resolves to,
however a URL writes an address, and wherever a redirect leads, the number is what counts.
"""

import ipaddress
from collections.abc import Iterable
from urllib.parse import urlsplit

import psutil

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

# Not among Python's private networks, or not in every version of it.
_REFUSED_IPV4 = {
    ipaddress.IPv4Network("0.0.0.0/8"): "an unspecified",  # RFC 1122: this network
    ipaddress.IPv4Network("100.64.0.0/10"): "a carrier-grade NAT",  # RFC 6598; a cloud's metadata lives here too
    ipaddress.IPv4Network("168.63.129.16/32"): "a cloud host's",  # Azure's agent: a public number, a local thing
    ipaddress.IPv4Network("192.0.0.0/24"): "a reserved",  # RFC 6890
    ipaddress.IPv4Network("192.88.99.0/24"): "a reserved",  # RFC 7526: 6to4 relays
    ipaddress.IPv4Network("198.18.0.0/15"): "a reserved",  # RFC 2544: benchmarks
}
_GLOBAL_UNICAST = ipaddress.IPv6Network("2000::/3")  # RFC 4291: nothing else is assigned to the public internet
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")  # RFC 6052
_6TO4 = ipaddress.IPv6Network("2002::/16")  # RFC 3056
_DOCUMENTATION = ipaddress.IPv6Network("3fff::/20")  # RFC 9637, which Python 3.11 does not know
_TEREDO = ipaddress.IPv6Network("2001::/32")  # RFC 4380


def refusal(address: str, *, own: frozenset[str] = frozenset()) -> str | None:
    """Why nothing may connect to this numeric address ("a loopback address"), or None where it may.

    `own` are the addresses of this host. A firewall in front of it does not see what it sends to itself.
    """
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return "no numeric address"
    kind = _kind(ip)
    if kind is None and (address in own or any(str(inner) in own for inner in _embedded(ip))):
        kind = "this host's own"
    return None if kind is None else f"{kind} address"


def own_addresses() -> frozenset[str]:
    """The addresses of this host's network interfaces, without scope."""
    return frozenset(
        entry.address.partition("%")[0]
        for entries in psutil.net_if_addrs().values()
        for entry in entries
        if entry.address
    )


class AllowedHosts:
    """The hosts that are exempt: "host" for every port, or "host:port"; an IPv6 address with a port in brackets."""

    def __init__(self, entries: Iterable[str]) -> None:
        self._hosts = frozenset(_host_and_port(entry) for entry in entries if entry.strip())

    def holds(self, host: str, port: int) -> bool:
        """Whether the name `host`, as the URL has it, is exempt on `port`."""
        name = _normal(host)
        return (name, None) in self._hosts or (name, port) in self._hosts


def _kind(ip: Address) -> str | None:
    if isinstance(ip, ipaddress.IPv4Address):
        return _kind_of_4(ip)
    inner = _embedded(ip)
    if (ip.ipv4_mapped is not None or ip in _NAT64) and inner:
        return _kind_of_4(inner[0])
    for address in inner:
        if kind := _kind_of_4(address):
            return kind
    public = ip in _GLOBAL_UNICAST and ip not in _DOCUMENTATION and ip.is_global
    return _named(ip) or (None if public else "a reserved")


def _kind_of_4(ip: ipaddress.IPv4Address) -> str | None:
    for network, kind in _REFUSED_IPV4.items():
        if ip in network:
            return kind
    return _named(ip) or (None if ip.is_global else "a reserved")


def _named(ip: Address) -> str | None:
    for holds, kind in (
        (ip.is_unspecified, "an unspecified"),
        (ip.is_loopback, "a loopback"),
        (ip.is_link_local, "a link-local"),
        (ip.is_multicast, "a multicast"),
        (ip.is_reserved, "a reserved"),
        (ip.is_private, "a private"),
    ):
        if holds:
            return kind
    return None


def _embedded(ip: Address) -> list[ipaddress.IPv4Address]:
    """The IPv4 addresses that an IPv6 address stands for or is carried to."""
    if isinstance(ip, ipaddress.IPv4Address):
        return []
    if ip.ipv4_mapped is not None:
        return [ip.ipv4_mapped]
    if ip in _NAT64:
        return [ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)]
    if ip in _6TO4 and ip.sixtofour is not None:
        return [ip.sixtofour]
    if ip in _TEREDO and ip.teredo is not None:
        return list(ip.teredo)
    return []


def _host_and_port(entry: str) -> tuple[str, int | None]:
    entry = entry.strip()
    try:
        return str(ipaddress.IPv6Address(entry)), None
    except ValueError:
        parts = urlsplit(f"//{entry}")
        return _normal(parts.hostname or ""), parts.port


def _normal(host: str) -> str:
    host = host.strip("[]").rstrip(".").lower()
    try:
        return str(ipaddress.IPv6Address(host))
    except ValueError:
        return host if host.isascii() else host.encode("idna").decode("ascii")
