"""Repeated layers as one indexed rule: for l = 1…L, and the few lines that differ on their own.

Enters: the lines of a derivation.  Leaves: the same lines, runs of equal groups replaced by `Rule`s over an index l.
A group repeats where its notation is equal piece by piece but for numbers of names (W₂, h₁) and places (x[2]) that
grow or shrink evenly; a name is never looked into, only its number.  A run may begin or end with a quantity under
another name (X for h₀): the rule then says h₀ = X first.
Invariant: `Rule.expanded` gives back the lines that a rule stands for; no rule is made that does not.
Start reading at `folded`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Protocol

from gradc.explain.layout import Ident, Layout, Literal, Running, number_of, numbered

#: fewer equal groups than this are printed one by one
FEWEST = 3


class Row(Protocol):
    """What is folded: a line of a derivation."""

    @property
    def kind(self) -> str: ...
    @property
    def target(self) -> Layout: ...
    @property
    def layout(self) -> Layout | None: ...
    @property
    def reason(self) -> str: ...
    @property
    def facts(self) -> tuple[tuple[Ident, str], ...]: ...


@dataclass(frozen=True)
class Said:
    """A line as it is written: target = body, or 0 for a reason; and the facts under it.

    ``sign`` stands between the two: an arrow where the target gets another value.
    """

    target: Layout
    body: Layout | None
    reason: str = ""
    facts: tuple[tuple[Layout, str], ...] = ()
    sign: str = "="


@dataclass(frozen=True)
class Update:
    """The ``lines`` of one step of an optimizer, the same for each of ``members``, which they call ``letter``.

    Of a single parameter, which has its own name, there are no members.
    """

    letter: Ident
    members: tuple[Layout, ...]
    lines: tuple[Said, ...]


@dataclass(frozen=True)
class Rule:
    """``lines`` for each l = first, …, last; ``aliases`` says what a member is that has another name."""

    first: int
    last: int
    lines: tuple[Said, ...]
    aliases: tuple[tuple[Ident, Ident], ...]  #: all that the rule uses
    begins: int  #: the position of the first line that the rule stands for
    known: int = 0  #: how many of the aliases an earlier rule has said already

    @property
    def values(self) -> range:
        """The values of l, in reading order."""
        step = 1 if self.last >= self.first else -1
        return range(self.first, self.last + step, step)

    @property
    def length(self) -> int:
        """How many lines the rule stands for."""
        return len(self.values) * len(self.lines)

    @property
    def said_first(self) -> tuple[Said, ...]:
        """Lines before the rule: what its members at the ends are called elsewhere."""
        return tuple(Said(member, name) for member, name in self.aliases[self.known :])

    def expanded(self) -> list[Said]:
        """The lines that the rule stands for, one by one."""
        other = dict(self.aliases)
        return [_filled(line, value, other) for value in self.values for line in self.lines]


def folded(rows: Sequence[Row]) -> tuple[tuple[Said | Rule, ...], tuple[Said | Rule, ...]]:
    """The lines of the function and those of the gradient, every run of equal groups as a rule."""
    forward = [r for r in rows if r.kind == "forward"]
    backward = [r for r in rows if r.kind != "forward"]
    said = [plain(r) for r in (*forward, *backward)]
    names = {x for line in said for x in _leaves(line) if isinstance(x, Ident)}
    aliases: dict[Ident, Ident] = {}
    first = _Folding(said[: len(forward)], names, aliases, one_number=False).result()
    return tuple(first), tuple(_Folding(said[len(forward) :], names, aliases, one_number=True).result())


def plain(row: Row) -> Said:
    """A line on its own."""
    return Said(row.target, row.layout, row.reason, row.facts)


def _filled(line: Said, value: int, other: Mapping[Ident, Ident]) -> Said:
    """The line at l = ``value``."""

    def member(x: Layout) -> Layout:
        if not isinstance(x, Running):
            return x
        found = x.at(value)
        return other.get(found, found) if isinstance(found, Ident) else found

    return _mapped(line, lambda x: changed(x, member))


def _mapped(line: Said, change: Callable[[Layout], Layout]) -> Said:
    target = change(line.target)
    body = None if line.body is None else change(line.body)
    return Said(target, body, line.reason, tuple((change(x), words) for x, words in line.facts))


def changed(x: Layout, leaf: Callable[[Layout], Layout]) -> Layout:
    """``x`` with each name and place replaced by ``leaf`` of it."""
    if isinstance(x, Ident | Literal | Running):
        return leaf(x)
    new = {}
    for f in fields(x):
        value = getattr(x, f.name)
        if f.name != "source" and isinstance(value, Layout | tuple):
            new[f.name] = _changed_value(value, leaf)
    return replace(x, **new) if new else x


def _changed_value(value: Any, leaf: Callable[[Layout], Layout]) -> Any:
    if isinstance(value, Layout):
        return changed(value, leaf)
    return tuple(_changed_value(v, leaf) for v in value) if isinstance(value, tuple) else value


class _Folding:
    """One walk over the lines: at each, the longest run that begins there.

    Lines are compared by the number of their shape, what they are but for the numbers in them, and by those numbers;
    only a run that promises most is written out, and then compared piece by piece.
    """

    def __init__(self, said: Sequence[Said], names: set[Ident], aliases: dict[Ident, Ident], one_number: bool):
        self.said, self.names, self.aliases = said, names, aliases
        self.one_number = one_number  #: whether a group should speak of quantities of one number
        self.shapes = _kinds([_mapped(line, _without_number) for line in said])
        self.skeletons = _kinds([_mapped(line, _without_name) for line in said])
        self.numbers = [[k for x in _leaves(line) if (k := number_of(x)) is not None] for line in said]
        self.following: list[int] = self._next_alike()

    def _next_alike(self) -> list[int]:
        """For each line the next one of the same shape, or the end."""
        last: dict[int, int] = {}
        following = [len(self.said)] * len(self.said)
        for i in reversed(range(len(self.said))):
            following[i] = last.get(self.shapes[i], len(self.said))
            last[self.shapes[i]] = i
        return following

    def result(self) -> list[Said | Rule]:
        found: list[Said | Rule] = []
        free = 0  #: the first line that is not yet written
        while free < len(self.said):
            rule = next(filter(None, (self._beginning_near(i, free) for i in range(free, len(self.said)))), None)
            if rule is None:
                break
            found += [*self.said[free : rule.begins], rule]
            self.aliases.update(rule.aliases)
            free = rule.begins + rule.length
        return [*found, *self.said[free:]]

    def _beginning_near(self, i: int, free: int) -> Rule | None:
        """The rule that saves most lines, of a run that begins at line ``i`` or up to a group before or after it."""
        promised = [
            (self._worth(start, groups, period), start, period)
            for period in self._periods(i)
            for start, groups in self._starts(i, free, period)
        ]
        for _, start, period in sorted(promised, reverse=True):
            rule = self._rule(start, period)
            if rule is not None:
                return rule
        return None

    def _periods(self, i: int) -> Iterator[int]:
        """How long a group may be that begins at line ``i``: up to the first few lines like it."""
        j = self.following[i]
        for _ in range(4):
            if j >= len(self.said):
                return
            yield j - i
            j = self.following[j]

    def _starts(self, i: int, free: int, period: int) -> Iterator[tuple[int, int]]:
        """Where a run may begin that goes on evenly from line ``i``, and the number of its groups."""
        end = self._even_end(i, period)
        if end - i < (FEWEST - 1) * period:
            return
        after = end
        while after < min(end + period, len(self.said)) and self.skeletons[after] == self.skeletons[after - period]:
            after += 1
        before = i
        while before > max(free, i - period) and self.skeletons[before - 1] == self.skeletons[before - 1 + period]:
            before -= 1
        for start in range(before, i + period):
            groups = (after - start) // period
            if groups >= FEWEST:
                yield start, groups

    def _even_end(self, i: int, period: int) -> int:
        """Up to where lines are like those ``period`` before them, with numbers that grow evenly."""
        end = i + period
        while end < len(self.said) and self.shapes[end] == self.shapes[end - period]:
            if end >= i + 2 * period and self._growth(end, period) != self._growth(end - period, period):
                break
            end += 1
        return end

    def _growth(self, i: int, period: int) -> list[int]:
        return [b - a for a, b in zip(self.numbers[i - period], self.numbers[i], strict=True)]

    def _worth(self, start: int, groups: int, period: int) -> tuple[int, bool, int]:
        """Fewer lines to read are better; then, if asked for, groups of one number; then the first."""
        targets = [_leaves_of(line.target) for line in self.said[start + period : start + 2 * period]]
        uniform = len({number_of(x) for leaves in targets for x in leaves} - {None}) == 1
        return (groups - 1) * period, uniform or not self.one_number, -start

    def _rule(self, start: int, period: int) -> Rule | None:
        """The longest rule with groups of ``period`` lines that begins at ``start``."""
        groups = (len(self.said) - start) // period
        if groups < FEWEST:
            return None
        second, third = (self.said[start + k * period : start + (k + 1) * period] for k in (1, 2))
        lines = [_running(a, b) for a, b in zip(second, third, strict=True)]
        if any(line is None for line in lines):
            return None
        template, first, step = _counted([line for line in lines if line is not None])
        aliases = dict(self.aliases)
        count = 0
        while count < groups:
            group = self.said[start + count * period : start + (count + 1) * period]
            value = first + (count - 1) * step
            found = _aliased(template, group, value, aliases, self.names)
            if found is None:
                break
            count += 1
            ended = count > 1 and len(found) > len(aliases)
            aliases = found
            if ended:
                break
        if count < FEWEST:
            return None
        ends = first - step, first + (count - 2) * step
        used = {x.at(v) for line in template for x in _leaves(line) if isinstance(x, Running) for v in ends}
        mine = sorted((pair for pair in aliases.items() if pair[0] in used), key=lambda p: p[0] not in self.aliases)
        known = sum(member in self.aliases for member, _ in mine)
        return Rule(*ends, tuple(template), tuple(mine), start, known)


def _kinds(said: Sequence[Said]) -> list[int]:
    """A number per line, the same for equal ones."""
    known: dict[Said, int] = {}
    return [known.setdefault(line, len(known)) for line in said]


def _without_number(x: Layout) -> Layout:
    return changed(x, lambda leaf: leaf if number_of(leaf) is None else numbered(leaf, 0))  # type: ignore[arg-type]


def _without_name(x: Layout) -> Layout:
    return changed(x, lambda leaf: Ident("") if isinstance(leaf, Ident) else _without_number(leaf))


def _leaves(line: Said) -> list[Layout]:
    parts = [line.target, *([line.body] if line.body is not None else []), *(x for x, _ in line.facts)]
    return [leaf for part in parts for leaf in _leaves_of(part)]


def names_in(x: Layout) -> set[Ident]:
    """The names that ``x`` is written with."""
    return {leaf for leaf in _leaves_of(x) if isinstance(leaf, Ident)}


def _leaves_of(x: Layout) -> list[Layout]:
    found: list[Layout] = []

    def noted(leaf: Layout) -> Layout:
        found.append(leaf)
        return leaf

    changed(x, noted)
    return found


def _running(a: Said, b: Said) -> Said | None:
    """What ``a`` and ``b`` have in common, numbers that differ as `Running` with l = 0 at ``a`` and 1 at ``b``."""
    if (a.reason, len(a.facts)) != (b.reason, len(b.facts)) or (a.body is None) != (b.body is None):
        return None
    others = iter(_leaves(b))
    matched = True

    def common(mine: Layout) -> Layout:
        nonlocal matched
        theirs = next(others, None)
        if mine == theirs:
            return mine
        before, after = number_of(mine), number_of(theirs) if theirs is not None else None
        if before is None or after is None or not isinstance(mine, Ident | Literal) or numbered(mine, after) != theirs:
            matched = False
            return mine
        return Running(mine, after - before, before)

    found = _mapped(a, lambda x: changed(x, common))
    return found if matched and _filled(found, 1, {}) == b else None


def _counted(template: list[Said]) -> tuple[list[Said], int, int]:
    """The template over a number that most of its names have, instead of 0, 1, …: its first value and its step.

    Where names grow by other steps than one, groups are counted from 0.
    """
    even = [x for line in template for x in _leaves(line) if isinstance(x, Running) and abs(x.factor) == 1]
    counts = Counter((x.offset, x.factor) for x in even)
    first, step = max(counts, key=lambda key: counts[key]) if counts else (1, 1)

    def shifted(x: Layout) -> Layout:
        """The number f·k + o with k = (l − first)/step."""
        if not isinstance(x, Running):
            return x
        factor = x.factor * step
        return Running(x.first, factor, x.offset - factor * first)

    return [_mapped(line, lambda x: changed(x, shifted)) for line in template], first, step


def _aliased(
    template: Sequence[Said], group: Sequence[Said], value: int, aliases: dict[Ident, Ident], names: set[Ident]
) -> dict[Ident, Ident] | None:
    """Other names under which ``group`` is the template at l = ``value``, with those known; None if it is not."""
    found = dict(aliases)
    if any(x.factor * value + x.offset < 0 for line in template for x in _leaves(line) if isinstance(x, Running)):
        return None
    for line, actual in zip(template, group, strict=True):
        mine, theirs = _leaves(_filled(line, value, {})), _leaves(actual)
        if len(mine) != len(theirs):
            return None
        for a, b in zip(mine, theirs, strict=True):
            apart = isinstance(a, Ident) and isinstance(b, Ident) and _without_number(a) != _without_number(b)
            if apart and a not in names:
                found.setdefault(a, b)  # type: ignore[arg-type]
        if _filled(line, value, found) != actual:
            return None
    return found
