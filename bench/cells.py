# SPDX-License-Identifier: Apache-2.0
"""The cells of bench/paging: which there are, and how one is run on each backend."""
import json
import os
import signal
import subprocess
import sys
from typing import NamedTuple

import lib

WORKS = ("read", "write", "zipf", "scan", "stride", "chase", "phase", "record", "fill")
# Those that go round and round run for three times as long, to do so several times.
ROUNDS = ("scan", "stride", "chase")
KINDS = ("heap", "text", "random")
# The kernel's ways, and what stands beside each: the same memory in all.
RIVALS = {"zswap": ("run", "lib", "signal"), "zram": ("run", "lib", "signal"),
          "swap": ("run-store", "lib-store", "signal-store")}
SWAPS = {"zswap": "zswap", "zram": "zram", "swap": "file"}
KILLED = (-signal.SIGKILL, -signal.SIGBUS, 128 + signal.SIGKILL, 128 + signal.SIGBUS)
REFUSED = 77


class Cell(NamedTuple):
    rival: str
    work: str
    kind: str
    factor: float  # data / R
    threads: int

    def __str__(self):
        threads = "1 thread" if self.threads == 1 else f"{self.threads} threads"
        return f"{self.work} {self.kind} {self.factor:g}x, {threads}"


class Block(NamedTuple):
    """All combinations of these."""
    rivals: tuple
    works: tuple = WORKS
    kinds: tuple = ("heap",)
    factors: tuple = (2,)
    threads: tuple = (1,)
    backends: tuple = ()  # all of the rival's

    def cells(self):
        for work in self.works:
            for kind in self.kinds:
                for factor in self.factors:
                    for threads in self.threads:
                        for rival in self.rivals:
                            yield (Cell(rival, work, kind, factor, threads),
                                   self.backends or RIVALS[rival])


PRESETS = {
    # a look, two minutes
    "quick": dict(resident="64M", seconds=0.5, rounds=3, blocks=[
        Block(("zswap",), ("read", "write", "zipf", "scan", "fill"))]),
    # what the targets are about, and one cell of everything else
    "full": dict(resident="128M", seconds=1, rounds=5, blocks=[
        Block(("zswap",)),
        Block(("zswap",), ("read", "write", "zipf"), threads=(2,)),
        Block(("zswap",), ("read", "zipf", "scan"), factors=(4,)),
        Block(("zswap",), ("read", "scan"), ("text", "random"), backends=("run", "signal")),
        Block(("zram",), ("read", "write", "scan", "fill"), backends=("run", "signal")),
        Block(("swap",), ("read",), threads=(1, 4), backends=("run-store", "signal-store")),
        Block(("swap",), ("scan",), ("heap", "random"), backends=("run-store", "signal-store"))]),
    # seven hours
    "all": dict(resident="128M", seconds=1, rounds=5, blocks=[
        Block(tuple(RIVALS), WORKS, KINDS, (2, 4), (1, 2, 4))]),
}


def ordered(blocks):
    """[(cell, backends)]: a workload's cells, whatever the rival, one after another."""
    all_cells = {}
    for block in blocks:
        for cell, backends in block.cells():
            all_cells.setdefault(cell, backends)
    order = [*WORKS]
    return sorted(all_cells.items(), key=lambda c: (order.index(c[0].work), c[0][2:]))


def usable(blocks):
    """Blocks without what the kernel here cannot do, which is said."""
    why = {rival: lib.Kernel.why_not(SWAPS[rival]) for b in blocks for rival in b.rivals}
    for rival, text in why.items():
        if text:
            print(f"nothing beside {rival}: {text}", file=sys.stderr)
    if all(why.values()):
        lib.die("none of the kernel's ways works here")
    return [b._replace(rivals=tuple(r for r in b.rivals if not why[r])) for b in blocks]


class Runner:
    def __init__(self, args, scratch, put):
        self.args, self.scratch, self.put = args, scratch, put
        self.program = lib.program("paging", scratch)
        self.refused = set()

    def lz4_ratios(self):
        return {kind: lib.key_values(subprocess.run(
            [self.program, "--ratio", "--kind", kind], check=True, stdout=subprocess.PIPE,
            text=True).stdout)["lz4_ratio"] for kind in KINDS}

    def words(self, cell, number):
        data = int(lib.size(self.args.resident) * cell.factor)
        seconds = float(self.args.seconds) * (3 if cell.work in ROUNDS else 1)
        return data, ["--data", str(data), "--work", cell.work, "--kind", cell.kind,
                      "--seconds", str(seconds), "--threads", str(cell.threads),
                      "--seed", str(number)]

    def cell(self, cell, backends, number):
        args = self.args
        resident = lib.size(args.resident)
        data, words = self.words(cell, number)
        # the swap file holds whatever zswap refuses
        with lib.Kernel(args.swap_dir, data + (64 << 20), args.compressor,
                        SWAPS[cell.rival]) as kernel:
            text, peak, pool = kernel.run(resident, [self.program, *words], args.tries)
            self.result(cell, cell.rival, number, text, kills=kernel.kills,
                        workingset_refault_anon=kernel.refaults, memory=peak + pool, pool=pool)
        for backend in backends:
            if backend not in self.refused:
                self.quire(cell, backend, number, words, resident + pool)

    def result(self, cell, backend, number, text, **more):
        got = dict(cell._asdict(), backend=backend, round=number, resident=self.args.resident,
                   **more)
        if text:
            line = lib.key_values(text)
            got.update({k: v for k, v in line.items() if k not in ("work", "kind", "resident")})
            got.setdefault("memory", line["resident"])
            # of the whole run, shared out by accesses: after the fill all are alike
            got["refaults_timed"] = (got["workingset_refault_anon"] * got["ops"]
                                     / got["ops_all"])
        self.put(got)
        print(f"round {number} {cell} {backend}: "
              + (f"{got['ops_s'] / 1000:.1f}k/s" if text else "killed"), file=sys.stderr)

    def quire(self, cell, backend, number, words, limit):
        mode, _, store = backend.partition("-")
        stats = os.path.join(self.scratch, "stats")
        if mode == "run":
            command = [str(lib.QUIRE), "run", "--max", str(limit), "--stats=json",
                       "--stats-file", stats, *(["--zswap-max", "0"] if store else []), "--",
                       self.program, *words]
        else:
            command = [str(lib.BUILD / "bench/paging-lib"), *words, "--max", str(limit),
                       *(["--signal"] if mode == "signal" else []),
                       *(["--store"] if store else [])]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True,
                              env=quire_env(self.args))
        if done.returncode == REFUSED:
            print(f"{backend}: not in this build, left out", file=sys.stderr)
            self.refused.add(backend)
        elif done.returncode in KILLED:
            self.result(cell, backend, number, None, kills=1, limit=limit)
        elif done.returncode:
            lib.die(f"quire cell failed with {done.returncode}: {' '.join(command)}")
        else:
            more = run_figures(stats) if mode == "run" else {}
            self.result(cell, backend, number, done.stdout, kills=0, limit=limit, **more)


def run_figures(path):
    """What paging-lib says itself (buffer.h)."""
    with open(path) as f:
        stat = json.load(f)["stat"]
    return {key: stat[key] for key in ("workingset_refault_anon", "metadata", "anon",
                                       "swapcached", "zswap", "zswapped")}


def quire_env(args):
    env = dict(os.environ, QUIRE_SWAP_DIR=args.swap_dir)
    if args.pager:
        env["QUIRE_PAGER"] = args.pager
    return env
