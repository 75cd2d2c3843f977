# SPDX-License-Identifier: Apache-2.0
"""The tables of bench/paging, from its raw results."""
from typing import NamedTuple

import lib
import picture
from cells import Cell, RIVALS

MODES = ("run", "lib", "signal")
NAMES = {"zswap": "kernel zswap", "zram": "kernel zram", "swap": "kernel swap file",
         "run": "quire run", "lib": "thread mode", "signal": "signal mode",
         "run-store": "quire run, store only", "lib-store": "thread mode, store only",
         "signal-store": "signal mode, store only"}
WORK_TEXT = {"read": "random reads", "write": "random, half writes", "zipf": "zipf 0.99",
             "scan": "sequential scan", "stride": "strided", "chase": "pointer chase",
             "phase": "phase change", "record": "64 KiB records", "fill": "first touches"}


class Figures:
    """Results by cell and backend; a figure of a cell is the median of its rounds."""

    def __init__(self, results):
        self.cells = {}
        for r in results:
            cell = Cell(r["rival"], r["work"], r["kind"], r["factor"], r["threads"])
            self.cells.setdefault(cell, {}).setdefault(r["backend"], []).append(r)

    def values(self, cell, backend, key):
        """key may be "a/b"; results without them, killed ones, have no value."""
        above, _, below = key.partition("/")
        return [r[above] / (r[below] if below else 1)
                for r in self.cells.get(cell, {}).get(backend, ())
                if above in r and "ops" in r and (not below or r.get(below))]

    def median(self, cell, backend, key):
        return lib.median(self.values(cell, backend, key))

    def text(self, cell, backend, key, form, factor=1):
        value = self.median(cell, backend, key) * factor
        return format(value, form) if value == value else "-"

    def ratio(self, cell, backend, key="ops_s"):
        """quire's to the kernel's; None where one is missing or the kernel's is 0."""
        kernel = self.median(cell, cell.rival, key)
        quire = self.median(cell, backend, key)
        return quire / kernel if kernel == kernel and quire == quire and kernel else None

    def kills(self, cell, backend):
        return sum(r["kills"] for r in self.cells.get(cell, {}).get(backend, ()))


def write_cells(figures, out):
    for rival in RIVALS:
        rows = []
        for cell, backends in figures.cells.items():
            if cell.rival == rival:
                rows += [cell_row(figures, cell, b) for b in backends]
        if not rows:
            continue
        out.write(f"\n### Beside {NAMES[rival]}\n\n")
        lib.table(["cell", "backend", "ops/s", "of the kernel's", "p50 us", "p99 us",
                   "p99.9 us", "max us", "CPU us/op", "memory MiB", "refaults/op", "kills"],
                  rows, out)


def cell_row(figures, cell, backend):
    rates = figures.values(cell, backend, "ops_s")
    ratio = figures.ratio(cell, backend)
    rate = f"{lib.median(rates) / 1000:.1f}k +-{lib.spread(rates):.0f} %" if rates else "killed"
    row = [str(cell) if backend == cell.rival else "", NAMES[backend], rate,
           "" if backend == cell.rival else f"{ratio:.2f}" if ratio else "-"]
    for key, form in (("p50_us", ".1f"), ("p99_us", ".0f"), ("p999_us", ".0f"),
                      ("max_us", ".0f")):
        row.append(figures.text(cell, backend, key, form))
    memory = figures.text(cell, backend, "memory", ".0f", 1 / lib.MIB)
    pool = [r["pool"] for r in figures.cells[cell][backend] if r.get("pool")]
    if pool:
        memory += f" (Pk {lib.median(pool) / lib.MIB:.0f})"
    return row + [figures.text(cell, backend, "cpu_s/ops", ".1f", 1e6), memory,
                  figures.text(cell, backend, "workingset_refault_anon/ops_all", ".2f"),
                  str(figures.kills(cell, backend))]


# ---- targets ---------------------------------------------------------------------


class Target(NamedTuple):
    """must and goal: of the kernel's figure.  No goal: the device's bandwidth."""
    text: str
    must: float
    goal: float | None
    cells: tuple
    modes: tuple = MODES
    key: str = "ops_s"


def heap(work, threads=1, rival="zswap", kind="heap"):
    return Cell(rival, work, kind, 2, threads)


REFAULTS = "workingset_refault_anon/ops_all"
PAGED_CPU = "cpu_s/refaults_timed"
TARGETS = (
    Target("throughput", 2.5, 4, (heap("read"),), ("signal",)),
    Target("throughput", 1.6, 2.5, (heap("read"),), ("run", "lib")),
    Target("throughput", 2, 3, (heap("write"),), ("signal",)),
    Target("throughput", 1.5, 2, (heap("write", 2),), ("signal",)),
    Target("p99", 1 / 8, 1 / 15, (heap("read"),), key="p99_us"),
    Target("p99", 1 / 8, 1 / 15, (heap("write"), heap("write", 2)), ("signal",), "p99_us"),
    Target("p99.9", 1 / 4, 1 / 8, (heap("read"),), key="p999_us"),
    Target("p99.9", 1 / 4, 1 / 8, (heap("write"),), ("signal",), "p999_us"),
    Target("throughput", 4, 8, (heap("scan"), heap("stride"), heap("record"))),
    Target("throughput", 2, 3, (heap("zipf"), heap("phase"))),
    Target("refaults an access", 1, 1, (heap("zipf"), heap("phase")), key=REFAULTS),
    Target("throughput", 1.5, 2.5, (heap("fill"),)),
    Target("store only, throughput", 1, 1.2, (heap("read", 1, "swap"),)),
    Target("store only, throughput", 1.5, 2, (heap("read", 4, "swap"),)),
    Target("store only, throughput", 2, None, (heap("scan", 1, "swap", "random"),)),
    Target("store only, throughput", 3, None, (heap("scan", 1, "swap"),)),
    Target("CPU a page brought back", 1, 1,
           tuple(heap(w) for w in ("read", "write", "zipf", "scan", "stride", "chase", "phase",
                                   "record")), key=PAGED_CPU),
    Target("CPU a page filled", 1, 1, (heap("fill"),), key="cpu_s/ops"),
)


def bound(value, less):
    return f"{value:.3g}x" if not less else f"1/{1 / value:.0f}" if value < 1 else "the kernel's"


def judged(value, target, goal, less):
    if value is None:
        return "-"
    value = round(value, 2) if value > 0.5 else value
    text = f"1/{1 / value:.1f}" if less and 0 < value < 0.5 else f"{value:.2f}"
    better = (lambda limit: value <= limit) if less else (lambda limit: value >= limit)
    return text + (" goal" if better(goal) else " met" if better(target.must)
                   else " **missed**")


def write_targets(figures, extra, device_goal, out):
    out.write("\n### Targets\n\nquire's figure to the kernel's; \"met\": what must be, "
              "\"goal\": what should.\n\n")
    rows = []
    for t in TARGETS:
        less = t.key != "ops_s"
        for cell in t.cells:
            store = "-store" if cell.rival == "swap" else ""
            goal = device_goal(cell) if t.goal is None else t.goal
            values = [judged(figures.ratio(cell, m + store, t.key), t, goal, less)
                      if m in t.modes else "" for m in MODES]
            killed = not figures.values(cell, cell.rival, "ops") and \
                figures.kills(cell, cell.rival)
            rows.append([f"{cell}: {t.text}", bound(t.must, less), bound(goal, less),
                         *("kernel killed" if killed and v == "-" else v for v in values)])
    rows = [r for r in rows + [kill_row(figures)] + extra if any(v not in ("", "-")
                                                                 for v in r[3:])]
    lib.table(["work", "must", "goal", *(NAMES[m] for m in MODES)], rows, out)


def kill_row(figures):
    kernel = sum(figures.kills(c, c.rival) for c in figures.cells)
    ours = [[figures.kills(c, b) for c, backends in figures.cells.items() for b in backends
             if b.partition("-")[0] == m] for m in MODES]
    return [f"kills, all cells (the kernel: {kernel})", "0", "0",
            *((f"{sum(n)} **missed**" if any(n) else "0 goal") if n else "-" for n in ours)]


# ---- what is not beside the kernel -------------------------------------------------


def one_row(name, must, goal, value, form, modes):
    """A target in figures of its own: value(mode)."""
    def verdict(v):
        if v is None:
            return "-"
        return format(v, form) + (" goal" if v <= goal else " met" if v <= must
                                  else " **missed**")
    return [name, format(must, form), format(goal, form),
            *(verdict(value(m)) if m in modes else "" for m in MODES)]


def book_rows(figures, ratios):
    """Metadata and compression, as the read cell of heap data found them."""
    cell = heap("read")

    def metadata(mode):
        share = []
        for r in figures.cells.get(cell, {}).get(mode, ()):
            if "metadata" in r:
                data = lib.size(r["resident"]) * cell.factor
                budget = (60 * r["anon"] + 52 * (data - r["anon"]) + 44 * r["swapcached"]) / 4096
                share.append(r["metadata"] / budget)
        return lib.median(share) if share else None

    def compression(mode):
        got = [r["zswapped"] / r["zswap"] / ratios[cell.kind]
               for r in figures.cells.get(cell, {}).get(mode, ()) if r.get("zswap")]
        return 1 / lib.median(got) if got and ratios else None

    return [one_row("metadata / its budget", 1, 1, metadata, ".2f", MODES),
            one_row("LZ4's ratio / the pool's", 1 / 0.92, 1, compression, ".2f", MODES)]


def write_fits(fits, out):
    rows = []
    for name, f in fits.items():
        plain, quire = f["plain"], f["quire"]
        rows.append([name, f"{lib.median(plain):.0f} +-{lib.spread(plain):.0f} %",
                     f"{lib.median(quire):.0f} +-{lib.spread(quire):.0f} %",
                     f"{100 * (lib.median(plain) / lib.median(quire) - 1):+.1f} %"])
    out.write("\n### A program that fits in its limit\n\n")
    lib.table(["program", "plain ops/s", "quire run, ops/s", "slower by"], rows, out)


def fits_row(fits):
    worst = max(100 * (lib.median(f["plain"]) / lib.median(f["quire"]) - 1)
                for f in fits.values())
    return one_row("a program that fits is slower by, %", 3, 0, lambda _: worst, ".1f", ("run",))


def write_start(start, out):
    out.write(f"\n### Start-up, {start['runs']} runs each, interleaved in pairs\n\n")
    lib.table(["", "median us", "10 % us", "90 % us", "extra us (median of pairs)"],
              [[name, *(f"{got[k]:.0f}" for k in ("median_us", "p10_us", "p90_us", "extra_us"))]
               for name, got in start["rows"]], out)


def start_row(start):
    extra = dict(start["rows"])["/bin/true, quire run"]["extra_us"] / 1000
    return one_row("start-up, ms", 1, 0, lambda _: extra, ".2f", ("run",))


def picture_of(figures, note):
    """One group of bars for each workload: heap data, twice the memory, one thread."""
    works = [c for c in figures.cells if c == heap(c.work)]
    modes = [m for m in MODES if any(figures.ratio(c, m) for c in works)]
    rows = [(WORK_TEXT[c.work], [figures.ratio(c, m) for m in modes]) for c in works]
    return picture.bars("Accesses a second, kernel zswap with the same memory = 1", note,
                        [NAMES[m] for m in modes], rows)
