"""On which line of a TOML text each key and array element stands.

``tomllib`` gives values without places; this scans a text that ``tomllib`` has accepted and keeps
only the places, so that a message can name a line. Reads no values and judges nothing. Knows
nothing of the project.
"""

from __future__ import annotations

import tomllib

#: A key path: names of tables and keys, and 0-based indices of array elements.
KeyPath = tuple[str | int, ...]

_BLANK = " \t"
_BARE = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-")


def key_lines(text: str) -> dict[KeyPath, int]:
    """Map every key path of a valid TOML text to its 1-based line.

    A table named by ``[a.b]`` is on the line of its header, one that arises from dotted keys on
    the line of the first of them.
    """
    scanner = _Scanner(text.replace("\r\n", "\n"))
    try:
        scanner.document()
    except IndexError:  # text ended early: what was found so far still holds
        pass
    return scanner.lines


def parse_key(text: str) -> tuple[str, ...]:
    """Split a dotted key, with quoted parts or without, into its names.

    Raises
    ------
    ValueError
        When the text is no TOML key.
    """
    scanner = _Scanner(text.strip() + "\n")
    try:
        names = scanner.key()
    except IndexError:
        raise ValueError(f"{text!r} is not a dotted key") from None
    if scanner.at != len(scanner.text) - 1 or not all(names):
        raise ValueError(f"{text!r} is not a dotted key")
    return names


class _Scanner:
    """A cursor over the text; IndexError says that the text is over."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.line = 1
        self.lines: dict[KeyPath, int] = {}

    def here(self) -> str:
        return self.text[self.at]

    def step(self, count: int = 1) -> None:
        self.line += self.text.count("\n", self.at, self.at + count)
        self.at += count

    def skip(self, characters: str) -> None:
        """Skip these characters, and comments where line breaks are among them."""
        while True:
            if self.here() in characters:
                self.step()
            elif self.here() == "#" and "\n" in characters:
                while self.here() != "\n":
                    self.step()
            else:
                return

    def note(self, path: KeyPath) -> None:
        for end in range(1, len(path) + 1):
            self.lines.setdefault(path[:end], self.line)

    def document(self) -> None:
        table: KeyPath = ()
        counts: dict[KeyPath, int] = {}
        while True:
            self.skip(_BLANK + "\n")
            if self.here() != "[":
                self.pair(table)
                continue
            many = self.text.startswith("[[", self.at)
            self.step(2 if many else 1)
            self.skip(_BLANK)
            line = self.line
            table = self.indexed(self.key(), counts, new=many)
            self.step(2 if many else 1)
            self.note(table)
            self.lines[table] = line

    def indexed(self, names: tuple[str, ...], counts: dict[KeyPath, int], new: bool) -> KeyPath:
        """Put the index of the current element behind each array of tables on the way."""
        path: KeyPath = ()
        for depth, name in enumerate(names):
            path = (*path, name)
            if new and depth == len(names) - 1:
                counts[path] = counts.get(path, -1) + 1
            if path in counts:
                path = (*path, counts[path])
        return path

    def pair(self, table: KeyPath) -> None:
        path = (*table, *self.key())
        self.note(path)
        self.step()  # =
        self.skip(_BLANK)
        self.value(path)

    def key(self) -> tuple[str, ...]:
        names: list[str] = []
        while True:
            self.skip(_BLANK)
            if self.here() in "\"'":
                start = self.at
                self.string()
                quoted = self.text[start : self.at]
                try:
                    names.append(tomllib.loads(f"k = {quoted}")["k"])
                except tomllib.TOMLDecodeError:
                    raise ValueError(f"{quoted} is not a TOML string") from None
            else:
                start = self.at
                while self.here() in _BARE:
                    self.at += 1
                names.append(self.text[start : self.at])
            self.skip(_BLANK)
            if self.here() != ".":
                return tuple(names)
            self.step()

    def string(self) -> None:
        quote = self.here()
        mark = quote * 3 if self.text.startswith(quote * 3, self.at) else quote
        self.step(len(mark))
        while not self.text.startswith(mark, self.at):
            self.here()
            self.step(2 if quote == '"' and self.here() == "\\" else 1)
        self.step(len(mark))
        if len(mark) == 3:  # up to two quotes may stand right before the closing three
            for _ in range(2):
                if self.here() == quote:
                    self.step()

    def value(self, path: KeyPath) -> None:
        character = self.here()
        if character in "\"'":
            self.string()
        elif character == "[":
            self.array(path)
        elif character == "{":
            self.inline_table(path)
        else:
            while self.here() not in ",]}#\n":
                self.step()

    def array(self, path: KeyPath) -> None:
        self.step()
        index = 0
        while True:
            self.skip(_BLANK + "\n")
            if self.here() == "]":
                self.step()
                return
            if self.here() == ",":
                self.step()
                continue
            self.note((*path, index))
            self.value((*path, index))
            index += 1

    def inline_table(self, path: KeyPath) -> None:
        self.step()
        while True:
            self.skip(_BLANK + "\n,")
            if self.here() == "}":
                self.step()
                return
            self.pair(path)
