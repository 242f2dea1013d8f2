"""How processes that a script has started by itself become a group: they meet at a socket that only they can find."""

from __future__ import annotations

import hmac
import secrets
import socket
import sys
import time
from multiprocessing.connection import Connection
from multiprocessing.util import Finalize

from caffetools.engine.process_group import ProcessGroup
from caffetools.glog import fatal

#: Seconds that the processes wait for each other: some may build a large net meanwhile.
MEETING = 600.0
KEY_BYTES = 32


def new_key() -> bytes:
    """Return what the processes of a group have to know to find each other, and nobody else."""
    return secrets.token_bytes(KEY_BYTES)


def join(key: bytes, rank: int, ranks: int) -> ProcessGroup:
    """Return the group of all processes of this machine that call this with the same key.

    Errors: FatalError where the system cannot do it, and when somebody does not come.
    """
    if sys.platform != "linux":
        fatal("Processes that train together need Linux")
    if len(key) != KEY_BYTES:
        fatal(f"A key of processes that train together has {KEY_BYTES} bytes, this one {len(key)}")
    # A name without a file, which ends with the socket.
    address, secret = "\0caffetools-" + key[: KEY_BYTES // 2].hex(), key[KEY_BYTES // 2 :]
    talks, lifelines = _receive(address, secret, ranks) if rank == 0 else _call(address, secret, rank)
    group = ProcessGroup(rank, [f"rank {i}" for i in range(ranks)], talks, lifelines)
    # At the end of the process, also of one that multiprocessing has started, where atexit is not called.
    Finalize(None, group.leave, exitpriority=0)
    return group


def _receive(address, secret, ranks):
    """Wait for the others; return the pipes to talk, and the lifelines."""
    deadline = time.monotonic() + MEETING
    expected = [(rank, use) for use in (0, 1) for rank in range(1, ranks)]
    connections: dict[tuple[int, int], Connection] = {}
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(address)
        listener.listen(len(expected))
        while len(connections) < len(expected):
            listener.settimeout(max(deadline - time.monotonic(), 0.01))
            try:
                caller, _ = listener.accept()
            except TimeoutError:
                missing = ", ".join(str(i) for i, use in expected if use == 1 and (i, use) not in connections)
                fatal(f"Rank 0 has waited {MEETING:g} s for the processes of other ranks: {missing}")
            caller.setblocking(True)
            connection = Connection(caller.detach())
            words = connection.recv_bytes()
            # Only who knows the key is listened to further.
            if hmac.compare_digest(words[: len(secret)], secret):
                connections[tuple(words[len(secret) :])] = connection
    return [[connections[i, use] for i in range(1, ranks)] for use in (0, 1)]


def _call(address, secret, rank):
    deadline = time.monotonic() + MEETING
    connections = []
    for use in (0, 1):
        caller = socket.socket(socket.AF_UNIX)
        while caller.connect_ex(address):
            if time.monotonic() > deadline:
                fatal(f"Rank {rank} has waited {MEETING:g} s for the process of rank 0")
            time.sleep(0.02)
        connection = Connection(caller.detach())
        connection.send_bytes(secret + bytes((rank, use)))
        connections.append([connection])
    return connections
