"""Does it answer? Small questions to local servers, with short timeouts."""

import socket
from urllib.parse import urlsplit

import httpx


def answers(probe: str, timeout: float = 2.0) -> bool:
    """Whether ``tcp://host:port`` accepts, or an ``http://`` URL answers below 400."""
    url = urlsplit(probe)
    if url.scheme == "tcp":
        try:
            with socket.create_connection((str(url.hostname), int(url.port or 0)), timeout):
                return True
        except OSError:
            return False
    try:
        return httpx.get(probe, timeout=timeout).status_code < 400
    except httpx.HTTPError:
        return False
