"""The machines that graphs are compiled for, and the one road that leads to each of them.

A graph becomes code in stages, of which each is made from the one before:

    graph → optimised → lowered → schedule → code → assembly → function
    └─────── any machine ─────┘  └────────── this machine's ──────────┘

`stages.Stages` is one graph on that road, with the options and the machine it is compiled for.  It makes a stage when
somebody first asks for it, times it, and can print every one.  Whoever wants a schedule, a text or a function has it
from there: executables, the explorer, the oracle, the command line.  Nothing else calls a stage, so all of them speak
of the same code.

`machine.Machine` is what a machine has to say on the way: how wide its vectors are and what memory costs it, how it
schedules, emits, assembles and loads, what of it can be written into a file, and (`machine.Function`) how its code is
called.  There are three: `cpu.HostCpu`, on which this process runs; `foreign.ForeignCpu`, for which objects are
written; `ptx.NvidiaGpu`.  `table.MACHINES` names those that a user may name as a target.  A new one is a module or a
folder of this room and a row there (docs/adding-a-target.md).

Nothing is imported here: declaring a `jit` needs `options` alone, and no compiler.
"""
