"""The command line: ``gradc demo | show | explain | check | compile | profile | cache | doctor``.

Enters: words a user types.  Leaves: text on standard output and one of the exit statuses of `STATUSES`, with what went
wrong in one clear line.  `GRADC_TRACEBACK=full` shows the whole Python traceback before it.
"""

from __future__ import annotations

import argparse
import os
import sys
import traceback
from collections.abc import Sequence
from typing import TypeAlias

from gradc.cli.printing import print_everywhere
from gradc.cli.usage import STAGES, in_one_line
from gradc.version import __version__

Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"
FUNCTION = "FILE:FUNC, for example model.py:loss"
ARG = "an example argument, e.g. 'x=float64[5,8]' (random values), 'n=3' or 'lr=0.1'; default: the parameter's default"

PRECISION = "of float32 products on a GPU: tf32 rounds their operands for tensor cores (default: ieee)"


STATUSES = """exit status:
  0    fine
  1    the check, or the self-test, failed
  2    bad usage, bad input, an error in the given file, or a file that cannot be written
  130  interrupted
  141  nobody reads the output any more

GRADC_TRACEBACK=full shows whole tracebacks."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status, whatever the user's code raises."""
    print_everywhere()
    options = _parser().parse_args(argv)
    try:
        status = int(options.run(options))
        if sys.stdout is not None:
            sys.stdout.flush()
        return status
    except BrokenPipeError:
        return 141
    except KeyboardInterrupt:
        print("gradc: interrupted", file=sys.stderr)
        return 130
    except BaseException as error:  # a user's file may end with any of them
        if os.environ.get("GRADC_TRACEBACK") == "full" and isinstance(error, Exception):
            traceback.print_exception(error)
        print(f"gradc: {in_one_line(error)}", file=sys.stderr)
        return 2
    finally:
        _drop_what_cannot_be_written()


def _drop_what_cannot_be_written() -> None:
    """Leave nothing that Python would try to write again at exit, where a failure has a status of its own."""
    try:
        if sys.stdout is not None and not sys.stdout.closed:
            sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="gradc",
        description="Differentiate NumPy code, read the gradient, prove it, compile it.",
        epilog=STATUSES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"gradc {__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    _demo(commands)
    _show(commands)
    _explain(commands)
    _check(commands)
    _compile(commands)
    _profile(commands)
    _cache(commands)
    _doctor(commands)
    return parser


def _command(commands: Commands, name: str, words: str) -> argparse.ArgumentParser:
    return commands.add_parser(
        name, help=words, description=words, epilog=STATUSES, formatter_class=argparse.RawDescriptionHelpFormatter
    )


def _takes_function(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("function", metavar="FILE:FUNC", help=FUNCTION)
    parser.add_argument("--arg", action="append", default=[], metavar="NAME=VALUE", help=ARG)


def _demo(commands: Commands) -> None:
    parser = _command(commands, "demo", "train a small network on real data and show every stage")
    parser.add_argument("--out", default="gradc-demo", metavar="DIR", help="where to save IR, assembly and graph")
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--seed", type=int, default=0)
    parser.set_defaults(run=_run_demo)


def _show(commands: Commands) -> None:
    parser = _command(commands, "show", "print one stage of a function's compilation")
    _takes_function(parser)
    parser.add_argument("--stage", choices=STAGES, default="graph", help="which stage (default: graph)")
    parser.add_argument("--grad", action="store_true", help="of value_and_grad of the function")
    parser.add_argument("--threads", type=int, metavar="N", help="threads that share the work (default: as in gc.jit)")
    parser.add_argument("--target", help="cpu, or a GPU such as sm_90 (default of --stage ptx: sm_80)")
    parser.add_argument("--precision", choices=("ieee", "tf32"), default="ieee", help=PRECISION)
    parser.set_defaults(run=_run_show)


def _explain(commands: Commands) -> None:
    parser = _command(commands, "explain", "print the gradient or Hessian as formulas in the function's own names")
    _takes_function(parser)
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--latex", dest="form", action="store_const", const="latex", help="as LaTeX (amsmath)")
    form.add_argument("--mathml", dest="form", action="store_const", const="mathml", help="as MathML, for a web page")
    form.add_argument("--ascii", dest="form", action="store_const", const="ascii", help="without Unicode")
    form.add_argument(
        "--html", metavar="OUT", help="as a page that links source, formulas, graph, kernels, LLVM IR and assembly"
    )
    parser.add_argument("--unfold", action="store_true", help="print each of several equal layers")
    parser.add_argument("--wrt", metavar="NAMES", help="derive by these arguments, e.g. W,b (default: the first)")
    parser.add_argument("--order", type=int, choices=(1, 2), default=1, help="2: the Hessian (default: 1)")
    parser.add_argument("--operator", action="store_true", help="with --order 2: its product with a direction v")
    parser.add_argument("--jacobian", action="store_true", help="the Jacobian as a matrix")
    parser.add_argument("--trace", choices=("reverse", "forward"), help="one operation at a time, with v̄ or v̇")
    parser.add_argument(
        "--update", metavar="OPTIMIZER", help="a training step, e.g. 'adam(1e-3)' or 'sgd(0.1, momentum=0.9)'"
    )
    parser.add_argument("--rules", action="store_true", help="say by which identities each line was simplified")
    parser.set_defaults(run=_run_explain)


def _check(commands: Commands) -> None:
    parser = _command(commands, "check", "compare symbolic, forward, reverse, finite-difference and compiled gradients")
    _takes_function(parser)
    parser.set_defaults(run=_run_check)


def _compile(commands: Commands) -> None:
    words = "compile a function ahead of time: object with C header (.o, .obj), assembly (.s), LLVM IR (.ll), or PTX"
    parser = _command(commands, "compile", words)
    _takes_function(parser)
    endings = "file ending in .o, .obj, .s, .ll, .h or .ptx"
    parser.add_argument("-o", "--output", required=True, metavar="OUT", help=endings)
    parser.add_argument("--grad", action="store_true", help="value_and_grad of the function")
    parser.add_argument("--debug", action="store_true", help="with the lines of FILE as debug locations (DWARF)")
    targets = "e.g. aarch64-unknown-linux-gnu, wasm32-unknown-unknown; or a GPU: sm_90"
    parser.add_argument("--target", metavar="TRIPLE", help=targets)
    parser.add_argument("--precision", choices=("ieee", "tf32"), default="ieee", help=PRECISION)
    parser.add_argument("--cpu", default="", help="the target's CPU as LLVM names it, e.g. cortex-a72")
    parser.add_argument("--features", default="", help="LLVM's feature list, e.g. +avx2,+fma")
    words = "replace a header (or launch plan) that gradc did not write"
    parser.add_argument("--overwrite", action="store_true", help=words)
    parser.add_argument("--name", default="gradc_step", help="the exported symbol (default: gradc_step)")
    parser.set_defaults(run=_run_compile)


def _profile(commands: Commands) -> None:
    words = "time each kernel of the compiled function, beside what this machine can reach at most"
    parser = _command(commands, "profile", words)
    _takes_function(parser)
    parser.add_argument("--grad", action="store_true", help="of value_and_grad of the function")
    parser.set_defaults(run=_run_profile)


def _cache(commands: Commands) -> None:
    parser = _command(commands, "cache", "show or empty the cache of compiled objects")
    parser.add_argument("--clear", action="store_true", help="remove all of them")
    parser.add_argument("--json", action="store_true", help="as JSON, for programs")
    parser.set_defaults(run=_run_cache)


def _doctor(commands: Commands) -> None:
    parser = _command(
        commands, "doctor", "versions, CPU features, compile targets, GPU, cache, and a compiled self-test"
    )
    parser.set_defaults(run=_run_doctor)


# Each command imports what it needs when it runs: `gradc --help` stays quick.


def _run_demo(options: argparse.Namespace) -> int:
    from gradc.cli.demo import demo

    return demo(options.out, options.epochs, options.seed)


def _run_show(options: argparse.Namespace) -> int:
    from gradc.cli.stages import show

    chosen = (options.threads, options.target, options.precision)
    return show(options.function, options.arg, options.stage, options.grad, *chosen)


def _run_explain(options: argparse.Namespace) -> int:
    from gradc.cli.explaining import Asked, explain, explore

    chosen = (options.wrt, options.order, options.operator, options.jacobian, options.trace, options.update)
    asked = Asked(*chosen)
    if options.html is not None:
        return explore(options.function, options.arg, options.html, asked)
    return explain(options.function, options.arg, asked, options.form or "text", not options.unfold, options.rules)


def _run_check(options: argparse.Namespace) -> int:
    from gradc.cli.stages import check

    return check(options.function, options.arg)


def _run_compile(options: argparse.Namespace) -> int:
    from gradc.cli.stages import write

    target = (options.target, options.cpu, options.features)
    chosen = (options.debug, options.precision, options.overwrite)
    return write(options.function, options.arg, options.output, options.grad, target, options.name, *chosen)


def _run_profile(options: argparse.Namespace) -> int:
    from gradc.cli.profile import profile

    return profile(options.function, options.arg, options.grad)


def _run_cache(options: argparse.Namespace) -> int:
    from gradc.cli.cache import show_cache

    return show_cache(options.clear, options.json)


def _run_doctor(options: argparse.Namespace) -> int:
    from gradc.cli.doctor import doctor

    return doctor()
