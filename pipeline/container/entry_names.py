"""What the entries of a container are called, however they are spelt in the file.

D4.1, 2.2 fixes names and folders; people and their tools add a folder around everything,
backslashes, other case and files of their operating system. Knows names only.
"""

from __future__ import annotations

import re
from typing import Final

#: The folders of D4.1, 2.2, as they are written.
FOLDERS: Final = ("Reference", "Metadata", "Exploration")
#: Names that D4.1 or this project fixes; they are found in any case.
_FIXED: Final = re.compile(
    r"data\.(envi|hdr)|thumbnail\.jpg|preview(_[^/]*)?\.(envi|hdr)"
    r"|Reference/(white|black|white_black)(_std|_after)?\.(envi|hdr)"
    r"|Reference/pca_(basis|mean)\.(envi|hdr)"
    r"|Metadata/(lines\.csv|stream\.json)|Exploration/quality\.(envi|hdr)",
    re.IGNORECASE,
)


def canonical_names(names: list[str], warnings: list[str]) -> list[str | None]:
    """Give canonical names; None for what is no entry (folders, the Mac's own, unsafe)."""
    out: list[str | None] = []
    backslash = False
    for name in names:
        plain = name.split("\x00")[0]
        if "\\" in plain:
            backslash = True
            plain = plain.replace("\\", "/")
        parts = [part for part in plain.split("/") if part not in ("", ".")]
        is_folder = plain.endswith("/") or not parts
        if parts and (parts[0] == "__MACOSX" or parts[-1] in (".DS_Store", "Thumbs.db")):
            warnings.append(f"{plain} is left out (an operating system put it there)")
            out.append(None)
        elif ".." in parts:
            warnings.append(f"{plain} is left out (its name leads out of the container)")
            out.append(None)
        else:
            out.append(None if is_folder else "/".join(parts))
    if backslash:
        warnings.append("names contain backslashes, read as slashes")
    top = _common_top([name for name in out if name is not None])
    if top:
        warnings.append(f"the entries stand in a folder {top}")
        out = [None if name is None else name.removeprefix(top) for name in out]
    return [None if name is None else _spelling(name, warnings) for name in out]


def _spelling(name: str, warnings: list[str]) -> str:
    top, slash, rest = name.partition("/")
    for folder in FOLDERS:
        if slash and top.casefold() == folder.casefold():
            top = folder
    spelt = top + slash + rest
    if _FIXED.fullmatch(spelt):
        spelt = top + slash + rest.lower() if slash else top.lower()
    if spelt != name:
        warnings.append(f"{name} is read as {spelt}")
    return spelt


def _common_top(names: list[str]) -> str:
    """Give the folder (with its slash) in which the container's own root lies; else nothing."""
    folded = {name.casefold(): name for name in names}
    if "data.hdr" in folded:
        return ""
    tops = {name.partition("/")[0] for name in names}
    holding = [name for key, name in folded.items() if key.count("/") == 1]
    found = [name for name in holding if name.casefold().endswith("/data.hdr")]
    if len(found) == 1:
        return found[0][: -len("data.hdr")]
    if len(tops) == 1 and all("/" in name for name in names):
        top = tops.pop()
        if top.casefold() not in {folder.casefold() for folder in FOLDERS}:
            return top + "/"
    return ""
