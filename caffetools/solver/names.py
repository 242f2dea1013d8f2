"""Names that a solver's prototxt may give: of solver types, policies, regularizations and outputs."""

from __future__ import annotations

import difflib
from collections.abc import Collection

from caffetools.glog import fatal


def hint(name: str, known: Collection[str]) -> str:
    """Return `; did you mean X?` for the known name that is nearest to `name`, or nothing if none is near."""
    by_lower_case = {one.lower(): one for one in known}
    near = difflib.get_close_matches(name.lower(), by_lower_case, n=1)
    return f"; did you mean {by_lower_case[near[0]]}?" if near else ""


def check_known(what: str, name: str, known: Collection[str], plural: str) -> None:
    """Refuse a name that is not known. Errors: FatalError with all known ones, and the nearest if one is near."""
    if name not in known:
        fatal(f"Unknown {what}: {name} (known {plural}: {', '.join(sorted(known))}{hint(name, known)})")
