"""The detour: whether a host is reached through a proxy, as the environment says."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from mealkit.errors import UsageError

if TYPE_CHECKING:
    import ipaddress


def find_proxy(url: str, environment: Mapping[str, str]) -> tuple[str, str] | None:
    """The proxy for a URL, and the ``Proxy-Authorization`` for it or nothing; None: go there directly.

    ``HTTPS_PROXY``, ``HTTP_PROXY`` and ``ALL_PROXY``, in either case, by the URL's scheme. ``NO_PROXY`` lists hosts
    with all below them, ``host:port``, addresses, networks such as ``10.0.0.0/8``, or ``*``. This machine is never
    reached through a proxy.

    Raises:
        UsageError: the proxy is none that can be spoken to.
    """
    known = {name.lower(): value.strip() for name, value in environment.items() if name.lower().endswith("_proxy")}
    parts = urlsplit(url)
    proxy = known.get(f"{parts.scheme}_proxy") or known.get("all_proxy")
    host = (parts.hostname or "").lower()
    port = parts.port or (443 if parts.scheme == "https" else 80)
    if not proxy or _is_here(host) or any(_fits(rule, host, port) for rule in known.get("no_proxy", "").split(",")):
        return None
    where = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
    if where.scheme not in ("http", "https") or not where.hostname:
        raise UsageError(
            f"mealkit cannot speak through a proxy of the kind {where.scheme!r}",
            where=f"{parts.scheme.upper()}_PROXY",
            hint="name it as http://host:port, or list the registry in NO_PROXY",
        )
    authorization = ""
    if where.username:
        import base64

        login = f"{unquote(where.username)}:{unquote(where.password or '')}"
        authorization = "Basic " + base64.b64encode(login.encode()).decode()
    return f"{where.scheme}://{where.netloc.rpartition('@')[2]}", authorization


def _is_here(host: str) -> bool:
    address = _address(host)
    return host == "localhost" or (address is not None and address.is_loopback)


def _fits(rule: str, host: str, port: int) -> bool:
    rule = rule.strip().lower()
    if rule == "*" or not rule:
        return rule == "*"
    address = _address(host)
    if address is not None:
        import ipaddress

        try:
            return address in ipaddress.ip_network(rule.strip("[]"), strict=False)
        except ValueError:
            pass
    name, colon, wanted = rule.rpartition(":")
    if colon and wanted.isdigit():
        if int(wanted) != port:
            return False
        rule = name.strip("[]")
    rule = rule.removeprefix("*").lstrip(".")
    return bool(rule) and (host == rule or host.endswith("." + rule))


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    import ipaddress  # late: most machines need no proxy

    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None
