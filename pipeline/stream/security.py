"""Who may use the link: endpoint rules, CURVE keys and the list of allowed clients.

An ``ipc`` endpoint is as private as its folder, ``tcp`` on the loopback interface as private as
the machine; anything beyond needs CURVE keys, or an explicit ``insecure = true``. Keys are those
of ZeroMQ's CURVE (Curve25519), in ZPL files. Knows the error tree, the config's structures, zmq.
"""

from __future__ import annotations

import atexit
import ipaddress
import logging
import os
import secrets
import shutil
import socket
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import zmq
import zmq.auth
from zmq.auth.thread import ThreadAuthenticator

from pipeline.config import CurveConfig
from pipeline.errors import ConfigError

log = logging.getLogger("swath.stream")

#: Longest path of an ipc endpoint, bytes (``sun_path`` of Linux less its NUL).
IPC_PATH_BYTES = 107


def check_endpoint(endpoint: str, curve: CurveConfig | None, insecure: bool) -> None:
    """Refuse an endpoint that is none, or that others could reach without keys.

    Raises
    ------
    ConfigError
        Naming the endpoint and what is allowed.
    """
    scheme, _, address = endpoint.partition("://")
    if scheme not in ("ipc", "tcp") or not address:
        raise ConfigError(
            f"[stream] endpoint: found {endpoint!r}, allowed are ipc://PATH and tcp://HOST:PORT"
        )
    if scheme == "ipc":
        if not zmq.has("ipc"):
            raise ConfigError(
                f"[stream] endpoint: found {endpoint!r}, this system has no ipc; allowed is "
                "tcp://127.0.0.1:PORT"
            )
        if len(os.fsencode(address)) > IPC_PATH_BYTES:
            raise ConfigError(
                f"[stream] endpoint: the path of {endpoint!r} has {len(os.fsencode(address))} "
                f"bytes, allowed are {IPC_PATH_BYTES}"
            )
        return
    host, colon, port = address.rpartition(":")
    if not colon or not (port == "*" or (port.isdecimal() and int(port) < 65536)):
        raise ConfigError(
            f"[stream] endpoint: found {endpoint!r}, allowed is tcp://HOST:PORT with a port of "
            "0 to 65535 or *"
        )
    if curve is None and not insecure and not _is_loopback(host):
        raise ConfigError(
            f"[stream] endpoint: {endpoint!r} can be reached from other machines; allowed with "
            "curve keys ([stream.curve]), or with insecure = true"
        )


def secure_server(
    where: zmq.Socket[Any], context: zmq.Context[Any], curve: CurveConfig | None
) -> ThreadAuthenticator | None:
    """Give the binding socket its key and admit the listed clients only.

    Returns
    -------
    ThreadAuthenticator or None
        To be stopped when the socket is closed; None without CURVE.

    Raises
    ------
    ConfigError
        When a key file cannot be used, or no client is allowed.
    """
    if curve is None:
        return None
    if not curve.clients:
        raise ConfigError("[stream.curve] clients: found none, at least one public key is needed")
    public, secret = _load_key(curve.key, "key", secret=True)
    allowed = frozenset(_load_key(name, "clients", secret=False)[0] for name in curve.clients)
    where.set(zmq.CURVE_SERVER, 1)
    where.set(zmq.CURVE_PUBLICKEY, public)
    where.set(zmq.CURVE_SECRETKEY, secret or b"")
    where.set(zmq.ZAP_DOMAIN, b"swath")
    authenticator = ThreadAuthenticator(context)
    authenticator.start()
    authenticator.configure_curve_callback("swath", _Allowed(allowed))
    return authenticator


def secure_client(where: zmq.Socket[Any], curve: CurveConfig | None) -> None:
    """Give the connecting socket its own key and the driver's public one.

    Raises
    ------
    ConfigError
        When a key file cannot be used or ``server`` is missing.
    """
    if curve is None:
        return
    if curve.server is None:
        raise ConfigError("[stream.curve] server: missing, the driver's public key is needed here")
    public, secret = _load_key(curve.key, "key", secret=True)
    server, _ = _load_key(curve.server, "server", secret=False)
    where.set(zmq.CURVE_PUBLICKEY, public)
    where.set(zmq.CURVE_SECRETKEY, secret or b"")
    where.set(zmq.CURVE_SERVERKEY, server)


def make_keys(folder: str | os.PathLike[str], name: str) -> tuple[Path, Path]:
    """Make a pair of CURVE keys: ``NAME.key`` (public) and ``NAME.key_secret`` (mode 0600).

    Returns
    -------
    (Path, Path)
        The public and the secret file.

    Raises
    ------
    ConfigError
        When one of the files exists, or the folder cannot be written.
    """
    target = Path(folder)
    files = (target / f"{name}.key", target / f"{name}.key_secret")
    for file in files:
        if file.exists():
            raise ConfigError(f"{file}: exists, keys are never overwritten")
    try:
        target.mkdir(parents=True, exist_ok=True)
        # The secret is born in a folder that nobody else can enter, and leaves it with mode 0600.
        with tempfile.TemporaryDirectory(prefix=".keys-", dir=target) as private:
            for made, file in zip(zmq.auth.create_certificates(private, name), files, strict=True):
                os.chmod(made, 0o600 if file.suffix == ".key_secret" else 0o644)
                os.rename(made, file)
    except OSError as error:
        raise ConfigError(f"{target}: keys cannot be written here: {error.strerror}") from error
    return files


def private_endpoint() -> tuple[str, Callable[[], None]]:
    """Make an endpoint for two processes of this user on this machine.

    Returns
    -------
    (str, callable)
        An ipc endpoint in a folder with mode 0700 (loopback tcp where there is no ipc), and what
        removes it again.
    """
    if sys.platform == "win32" or not zmq.has("ipc"):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            return f"tcp://127.0.0.1:{probe.getsockname()[1]}", lambda: None
    name = f"swath-{secrets.token_hex(8)}"
    folder = os.path.join(tempfile.gettempdir(), name)
    if len(os.fsencode(folder)) > IPC_PATH_BYTES - len("/link"):
        folder = os.path.join("/tmp", name)

    def remove() -> None:
        shutil.rmtree(folder, ignore_errors=True)
        atexit.unregister(remove)

    # before there is one: a signal may come between this and what the caller does with it
    atexit.register(remove)
    os.mkdir(folder, 0o700)
    return f"ipc://{folder}/link", remove


class _Allowed:
    """The list of allowed clients, as pyzmq's authenticator asks for it."""

    def __init__(self, keys: frozenset[bytes]) -> None:
        self._keys = keys
        self._next_word = 0.0

    def callback(self, domain: str, key: bytes) -> bool:
        admitted = key in self._keys
        if not admitted and time.monotonic() >= self._next_word:
            self._next_word = time.monotonic() + 5.0
            text = key.decode("ascii", "replace")
            log.warning("a client with the key %s is not in the list of clients: refused", text)
        return admitted


def _is_loopback(host: str) -> bool:
    host = host.strip("[]")
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "lo"


def _load_key(name: str, key: str, *, secret: bool) -> tuple[bytes, bytes | None]:
    if not os.path.isfile(name):
        raise ConfigError(
            f"[stream.curve] {key}: {name}: found no such file; swath keys makes keys"
        )
    try:
        public, private = zmq.auth.load_certificate(name)
    except (OSError, ValueError) as error:
        raise ConfigError(f"[stream.curve] {key}: {name}: {error}") from error
    if public is None or len(public) != 40:
        raise ConfigError(f"[stream.curve] {key}: {name} holds no public key of 40 characters")
    if secret and (private is None or len(private) != 40):
        raise ConfigError(
            f"[stream.curve] {key}: {name} holds no secret key of 40 characters; the file that "
            "ends in .key_secret is meant"
        )
    return public, private
