"""The proxies that a download goes through, as the environment names them."""

import os
import urllib.request
from dataclasses import dataclass
from importlib import util
from urllib.parse import SplitResult, urlsplit

from distill3r_core.errors import WeightsError

_KINDS = ("http", "https", "all")  # of `HTTP_PROXY`, `HTTPS_PROXY`, `ALL_PROXY`
_SOCKS = ("socks5", "socks5h")
_PACKAGE = "socksio"  # what the Hugging Face Hub's client needs for SOCKS


@dataclass(frozen=True)
class Proxy:
    """A proxy.

    Args:
        source: Environment variable that names it, or "the system's settings".
        address: Its address with a scheme.
    """

    source: str
    address: str

    @property
    def parts(self) -> SplitResult:
        """The address in parts."""
        return urlsplit(self.address)

    def __str__(self) -> str:
        """The proxy for messages, without a password."""
        host = self.parts.netloc.rpartition("@")[2]
        return f"the proxy {self.parts.scheme}://{host} ({self.source})"


def proxy_for(url: str) -> Proxy | None:
    """The proxy that requests to an address go through; None: they go there directly."""
    parts = urlsplit(url)
    if urllib.request.proxy_bypass(parts.hostname or ""):
        return None
    found = _proxies()
    return found.get(parts.scheme) or found.get("all")


def http_proxies(url: str) -> dict[str, str]:
    """Proxies for `urllib.request.ProxyHandler`, by the scheme of a request.

    Raises:
        WeightsError: The proxy for this address is not one for HTTP, or its address is wrong.
    """
    proxy = proxy_for(url)
    if proxy is not None:
        _require_address(proxy)
        if proxy.parts.scheme in _SOCKS:
            raise WeightsError(
                f"cannot download {url} through {proxy}: it needs an HTTP proxy",
                hint="set HTTPS_PROXY to an HTTP proxy, or fetch the file yourself",
            )
    found = {scheme: proxy_for(f"{scheme}://{urlsplit(url).netloc}") for scheme in _KINDS[:2]}
    return {
        scheme: one.address
        for scheme, one in found.items()
        if one is not None and one.parts.scheme not in _SOCKS
    }


def require_proxies() -> None:
    """Refuse proxies that the Hugging Face Hub's client cannot use. It sets up all of them at once.

    Raises:
        WeightsError: Names the proxy and what to do.
    """
    for proxy in _proxies().values():
        _require_address(proxy)
        if proxy.parts.scheme in _SOCKS and util.find_spec(_PACKAGE) is None:
            raise WeightsError(
                f"{proxy} needs the package {_PACKAGE}, which is not installed",
                hint=f"pip install {_PACKAGE}, or set {proxy.source} to an HTTP proxy",
            )


def _proxies() -> dict[str, Proxy]:
    """The proxies there are, by kind."""
    found = urllib.request.getproxies()
    proxies = {}
    for kind in _KINDS:
        if address := found.get(kind):
            names = (f"{kind}_proxy", f"{kind.upper()}_PROXY")
            set_here = (name for name in names if os.environ.get(name))
            source = next(set_here, "the system's settings")
            proxies[kind] = Proxy(source, address if "://" in address else f"http://{address}")
    return proxies


def _require_address(proxy: Proxy) -> None:
    try:
        valid = proxy.parts.scheme in ("http", "https", *_SOCKS) and bool(proxy.parts.hostname)
        _ = proxy.parts.port
    except ValueError:
        valid = False
    if not valid:
        raise WeightsError(
            f"{proxy} cannot be used: its address is not one of an HTTP or SOCKS5 proxy",
            hint=f"set {proxy.source} to HOST:PORT, http://HOST:PORT or socks5://HOST:PORT",
        )
