"""Names that a solver's prototxt may give: of solver types, policies and regularizations."""

from __future__ import annotations

import difflib
from collections.abc import Collection

from caffetools.glog import fatal


def check_known(what: str, name: str, known: Collection[str], plural: str) -> None:
    """Refuse a name that is not known. Errors: FatalError with all known ones, and the nearest if one is near."""
    if name in known:
        return
    by_lower_case = {one.lower(): one for one in known}
    near = difflib.get_close_matches(name.lower(), by_lower_case, n=1)
    hint = f"; did you mean {by_lower_case[near[0]]}?" if near else ""
    fatal(f"Unknown {what}: {name} (known {plural}: {', '.join(sorted(known))}{hint})")
