"""Inputs that come in rows: the weights of a list of layers are one letter with an index.

Enters: the names of a graph's inputs, such as ``params[3].W``, and the variables that held them.  Leaves: for each such
input a short `Ident`, W₃, and what the letter stands for.
Invariant: an input is shortened only if its row has at least two members, all called the same, and no other name is
written that way; else its row is known by its place, params[3].W.  Start reading at `families`.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, replace

from gradc.explain.layout import Ident

_INDEX = re.compile(r"\[(\d+)\]")
_LAST_KEY = re.compile(r"(?:^|\.)([^\W\d]\w*)(?:\[\d+\])?$")


@dataclass(frozen=True)
class Family:
    """The inputs ``place`` with a number for l, written as ``ident`` with that number.

    Where the letter says something else, too, they are written as their place.
    """

    place: str  #: where the user finds a member, for example ``params[l].W``
    ident: Ident
    members: Mapping[int, str]  #: the name of each input by its number

    @property
    def by_place(self) -> bool:
        """Whether members are written as the user finds them."""
        return self.ident.name == self.place

    def member(self, number: int) -> Ident:
        """How the input with that number is written."""
        if self.ident.below or self.by_place:
            return replace(self.ident, index=number)
        return replace(self.ident, below=str(number))


def families(inputs: Mapping[str, str], written: Mapping[str, Ident], taken: set[Ident]) -> list[Family]:
    """The rows among ``inputs`` (name and the variable that held it, or ""); ``taken`` is what other names look like.

    ``written`` says how each possible letter would be written.
    """
    rows = _rows(inputs)
    found: list[Family] = []
    for place, members in rows.items():
        letters = {inputs[name] or _last_key(name) for name in members.values()}
        letter = letters.pop() if len(letters) == 1 else ""
        if letter and letter in written:
            found.append(Family(place, written[letter], members))
    alike: dict[Ident, list[Family]] = defaultdict(list)
    for family in found:
        for number in family.members:
            alike[family.member(number)].append(family)
    own = [all(len(alike[f.member(k)]) == 1 and f.member(k) not in taken for k in f.members) for f in found]
    return [f if alone else replace(f, ident=Ident(f.place)) for f, alone in zip(found, own, strict=True)]


def letters(inputs: Mapping[str, str]) -> set[str]:
    """Every name that a row may be called by."""
    return {held or _last_key(name) for name, held in inputs.items()} - {""}


def _last_key(name: str) -> str:
    found = _LAST_KEY.search(name)
    return found.group(1) if found else ""


def _rows(inputs: Mapping[str, str]) -> dict[str, dict[int, str]]:
    """Names that differ in one index alone and are called the same, by what they have in common; each in one row."""
    rows: dict[str, dict[int, str]] = defaultdict(dict)
    for name, held in inputs.items():
        for found in _INDEX.finditer(name):
            place = f"{name[: found.start()]}[l]{name[found.end() :]}"
            if (held or _last_key(name)) == (held or _last_key(place.replace("[l]", "[0]"))):
                rows[place][int(found.group(1))] = name
    alike = {
        place: members
        for place, members in rows.items()
        if len(members) > 1 and len({inputs[name] or _last_key(name) for name in members.values()}) == 1
    }
    claimed: dict[str, str] = {}
    for place, members in sorted(alike.items(), key=lambda row: len(row[1])):
        for name in members.values():
            claimed[name] = place  # the longest row, if there are several
    return {place: members for place, members in alike.items() if all(claimed[n] == place for n in members.values())}
