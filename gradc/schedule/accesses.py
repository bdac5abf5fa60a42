"""Where a kernel reads and writes its buffers, and which of them may therefore share memory.

Enters: a kernel.  Leaves: answers for pairs of buffers, each at the cost of a look into what was noted once.
Start reading at `Accesses.in_step`.
"""

from __future__ import annotations

from gradc.schedule.affine import Affine
from gradc.schedule.kernel import Kernel, Load, Lookup, Nest, Store, Work


class Accesses:
    """Where one kernel reads and writes its buffers: what decides which of them may share memory."""

    def __init__(self, kernel: Kernel):
        self.kernel = kernel
        self.slots: dict[int, set[int]] = {}
        for slot, number in enumerate(kernel.slots):
            self.slots.setdefault(number, set()).add(slot)
        touches = [(w, w.touch) for w in kernel.work]
        self.parts = [(w, t, _Places(t.steps) if t.steps is not None else None) for w, t in touches]

    def in_step(self, source: int, target: int) -> bool:
        """Whether the kernel may write buffer ``target`` onto the memory of ``source``.

        True if it reads ``source`` at no place but the one that it writes next, or all at once before its only write,
        or in work that is over before anything of ``target`` is written.  A plain copy of the one to the other is no
        write: it will be left out.
        """
        sources, targets = self.slots.get(source, set()) & {*self.kernel.reads}, self.slots.get(target, set())
        written = False
        for work, touch, places in self.parts:
            if is_copy(work, sources, targets) and not written:
                continue
            writes = not targets.isdisjoint(touch.targets) or (places is not None and places.writes(targets))
            if not sources.isdisjoint(touch.sources) and (written or writes):
                return False
            written = written or not targets.isdisjoint(touch.targets)
            if places is not None and not places.in_step(sources, targets, written):
                return False
            written = written or writes
        return True

    def side_by_side(self, number: int) -> bool:
        """Whether lanes read neighbours of a buffer: lanes apart, read around what was just written, would wait."""
        return all(
            places.nest.lane is None or offset.coefficient(places.nest.lane) == 1
            for _, _, places in self.parts
            if places is not None
            for slot in self.slots.get(number, ())
            for offset in places.loads.get(slot, ())
        )


class _Places:
    """The offsets at which a nest reads and writes each slot."""

    def __init__(self, nest: Nest):
        self.nest = nest
        #: whether a nest makes more than one step: in one step all is read before anything is written
        self.loops = bool(nest.outer) or len(nest.stages) != 1 or bool(nest.stages[0].inner)
        self.loads: dict[int, set[Affine]] = {}
        self.computed: set[int] = set()  #: slots that are read at places not known before it runs
        for x in nest.code:
            if isinstance(x, Load):
                self.loads.setdefault(x.slot, set()).add(x.offset)
            elif isinstance(x, Lookup):
                self.computed.add(x.slot)
        self.stores: dict[int, list[Store]] = {}
        for store in nest.stores:
            self.stores.setdefault(store.slot, []).append(store)

    def writes(self, slots: set[int]) -> bool:
        return not self.stores.keys().isdisjoint(slots)

    def in_step(self, sources: set[int], targets: set[int], written: bool) -> bool:
        """Whether ``sources`` are read only where ``targets``, on the same memory and ``written`` or not, still hold
        the old value."""
        reads = self.read(sources) if self.loops or written else set[Affine]()
        if reads is None:
            return not (written or self.writes(targets))
        if not reads:
            return True
        if written or not self.written_at(targets, reads):
            return False
        return len(self.nest.stages) == 1 or self.written_last(targets)

    def read(self, slots: set[int]) -> set[Affine] | None:
        """Where ``slots`` are read; None if that is not known before it runs."""
        if not slots.isdisjoint(self.computed):
            return None
        return set[Affine]().union(*(self.loads.get(slot, ()) for slot in slots))

    def written_last(self, slots: set[int]) -> bool:
        """Whether no stage before the last one with loops writes ``slots``: its passes over a row read old values."""
        last = max((k for k, s in enumerate(self.nest.stages) if s.inner), default=0)
        return not any(s.slot in slots for stage in self.nest.stages[:last] for s in stage.stores)

    def written_at(self, slots: set[int], reads: set[Affine]) -> bool:
        """Whether each place read is the one that the nest's only pass writes."""
        stores = [s for slot in slots for s in self.stores.get(slot, ())]
        plain = all(s.offset in reads and s.how == "set" and not s.terms for s in stores)
        return not stores or (len(reads) == 1 and plain)


def is_copy(work: Work, sources: set[int], targets: set[int]) -> bool:
    """Whether work does nothing but write each element of one slot to its own place in another."""
    if not isinstance(work, Nest) or len(work.stages) != 1 or len(work.code) != 1:
        return False
    (load,), stores = work.code, list(work.stores)
    if not isinstance(load, Load) or len(stores) != 1 or work.stages[0].scan or work.stages[0].recur:
        return False
    (store,) = stores
    same = store.offset == load.offset and store.how == "set" and not store.terms
    return same and load.slot in sources and store.slot in targets
