"""What LMDB and LevelDB have in common here."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import TypeVar

D = TypeVar("D", bound="Database")


class Cursor(ABC):
    """A place in a database, at first its first record. It ends with its database."""

    @abstractmethod
    def seek_to_first(self) -> None:
        """Go to the first record."""

    @abstractmethod
    def seek(self, key: bytes) -> None:
        """Go to the first record whose key is not less than `key`."""

    @abstractmethod
    def next(self) -> None:
        """Go to the next record; past the last one the cursor is no longer valid."""

    @abstractmethod
    def valid(self) -> bool:
        """Whether there is a record here."""

    @abstractmethod
    def key(self) -> bytes:
        """The key of the record here."""

    @abstractmethod
    def value(self) -> bytes:
        """The value of the record here."""


class Database(ABC):
    """An open database. As a context manager it is closed at the end, or given up if the body fails."""

    def __init__(self, path: str) -> None:
        self.path = path

    @abstractmethod
    def cursor(self) -> Cursor:
        """A new cursor at the first record."""

    @abstractmethod
    def __iter__(self) -> Iterator[tuple[bytes, bytes]]:
        """All records, in the order of their keys; faster than a cursor."""

    @abstractmethod
    def __len__(self) -> int:
        """The number of records."""

    @abstractmethod
    def put(self, key: bytes, value: bytes) -> None:
        """Store a record with the next commit; it replaces one of the same key."""

    @abstractmethod
    def commit(self) -> None:
        """Store what was put since the last commit, all of it or nothing."""

    @abstractmethod
    def close(self) -> None:
        """Commit, and give a new database its name. Closing again does nothing."""

    @abstractmethod
    def discard(self) -> None:
        """Close without committing; a new database vanishes."""

    def __enter__(self: D) -> D:
        return self

    def __exit__(self, kind: object, error: object, traceback: object) -> None:
        if kind is None:
            self.close()
        else:
            self.discard()


def kind_of(path: str) -> str:
    """Which database a folder holds: "lmdb", "leveldb", or "" for none."""
    if os.path.isfile(os.path.join(path, "data.mdb")):
        return "lmdb"
    return "leveldb" if os.path.isfile(os.path.join(path, "CURRENT")) else ""


def absence(path: str, backend: str) -> str:
    """Why a folder cannot be opened as a database of some kind, or "" if nothing speaks against it."""
    if not os.path.exists(path):
        return f"{path} does not exist"
    if not os.path.isdir(path):
        return f"{path} is a file; the database is the folder that holds it"
    kind = kind_of(path)
    if kind == backend:
        return ""
    if kind:
        return f"{path} is a {kind} database: choose the backend {kind} (in a net: {kind.upper()})"
    return f"{path} holds no {backend} database"
