"""Which addresses a request may make this service connect to: those of the public internet.

The networks are those of IANA's special-purpose registries (RFC 6890 and after), and the addresses
at which clouds keep their metadata. They are listed here because `ipaddress.is_global` changed
its mind between patch releases of Python, and lets transition addresses pass.
"""

from __future__ import annotations

import ipaddress

__all__ = ["is_public"]

_CLOSED_4 = [
    ipaddress.IPv4Network(text)
    for text in (
        "0.0.0.0/8",
        "10.0.0.0/8",
        "100.64.0.0/10",  # Carriers' NAT; Alibaba's metadata at 100.100.100.200.
        "127.0.0.0/8",
        "168.63.129.16/32",  # Azure's wire server, in public space.
        "169.254.0.0/16",  # Link-local; metadata of most clouds.
        "172.16.0.0/12",
        "192.0.0.0/24",  # IETF protocols; Oracle's metadata at 192.0.0.192.
        "192.0.2.0/24",
        "192.31.196.0/24",
        "192.52.193.0/24",
        "192.88.99.0/24",  # 6to4 relays.
        "192.168.0.0/16",
        "192.175.48.0/24",
        "198.18.0.0/15",
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/4",
        "240.0.0.0/4",
    )
]
# Outside of it are loopback, IPv4-mapped and -compatible, NAT64, unique and link-local, multicast.
_OPEN_6 = ipaddress.IPv6Network("2000::/3")
_CLOSED_6 = [
    ipaddress.IPv6Network(text)
    for text in (
        "2001::/23",  # Teredo, benchmarking, ORCHID.
        "2001:db8::/32",
        "2002::/16",  # 6to4 holds an IPv4 address.
        "2620:4f:8000::/48",
        "3fff::/20",
    )
]
# Interface identifiers of ISATAP (RFC 5214) hold an IPv4 address at their end.
_ISATAP = (0x00005EFE, 0x02005EFE)


def is_public(address: str) -> bool:
    """Whether an address is one of the public internet, and nothing that stands for another.

    Args:
        address: As getaddrinfo gives it; a zone, or anything that is no address, is not public.
    """
    if "%" in address:
        return False
    try:
        known = ipaddress.ip_address(address)
    except ValueError:
        return False
    if isinstance(known, ipaddress.IPv4Address):
        return not any(known in network for network in _CLOSED_4)
    if (int(known) >> 32) & 0xFFFFFFFF in _ISATAP:
        return False
    return known in _OPEN_6 and not any(known in network for network in _CLOSED_6)
