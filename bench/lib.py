# SPDX-License-Identifier: Apache-2.0
"""What the benchmarks share: the kernel as a rival, facts, medians, tables."""
import os
import pathlib
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
BUILD = pathlib.Path(os.environ.get("QUIRE_BUILD", ROOT / "build"))
QUIRE = BUILD / "quire"
MIB = 1 << 20
PAGE = 4096
ZSWAP = pathlib.Path("/sys/module/zswap/parameters")
ZRAM = pathlib.Path("/sys/class/zram-control")
ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
# mkswap and swapon are there, not on every user's PATH
os.environ["PATH"] += ":/usr/sbin:/sbin"


def die(text):
    sys.exit(f"bench: {text}")


def size(text):
    """64M -> bytes."""
    units = {"K": 10, "M": 20, "G": 30}
    if text[-1:].upper() in units:
        return int(text[:-1]) << units[text[-1].upper()]
    return int(text)


def program(name, scratch):
    """A program of bench/: the built one, or compiled here from its source."""
    source = ROOT / "bench" / f"{name}.c"
    built = BUILD / "bench" / name
    if built.exists() and built.stat().st_mtime > source.stat().st_mtime:
        return str(built)
    made = os.path.join(scratch, name)
    subprocess.run(["cc", "-O2", "-o", made, str(source), "-lm", "-lpthread", "-ldl"],
                   check=True)
    return made


def facts(argv):
    """Lines that say what the figures belong to."""
    def first(command):
        try:
            return subprocess.run(command, capture_output=True, text=True,
                                  cwd=ROOT).stdout.strip() or "?"
        except OSError:
            return "?"

    cpu = "?"
    for line in open("/proc/cpuinfo"):
        if line.startswith("model name"):
            cpu = line.split(":", 1)[1].strip()
            break
    total = next(int(line.split()[1]) for line in open("/proc/meminfo")
                 if line.startswith("MemTotal:"))
    commit = first(["git", "rev-parse", "--short", "HEAD"])
    if first(["git", "status", "--porcelain"]) != "?":
        commit += " with local changes"
    return [f"machine: {os.cpu_count()} cores, {cpu}, {total >> 20} GiB",
            f"kernel: {os.uname().release}",
            f"commit: {commit}",
            f"command: {' '.join(argv)}",
            f"date: {time.strftime('%Y-%m-%d')}"]


def swap_fact(compressor):
    vm = pathlib.Path("/proc/sys/vm")
    page_cluster, swappiness = ((vm / n).read_text().strip() for n in ("page-cluster",
                                                                       "swappiness"))
    return f"kernel swap: {compressor}, page-cluster {page_cluster}, swappiness {swappiness}"


class Awake:
    """Idle-class loops keep the processors from halting; use as a context.

    To wake one that has halted takes up to 60 us in a virtual machine, more than most
    of what is measured.
    """

    def __enter__(self):
        loop = ["chrt", "-i", "0", sys.executable, "-c", "while True: pass"]
        self.loops = [subprocess.Popen(loop) for _ in range(os.cpu_count())]

    def __exit__(self, *_):
        for loop in self.loops:
            loop.kill()
            loop.wait()


def median(values):
    return statistics.median(values) if values else float("nan")


def spread(values):
    """(largest - smallest) / median, in percent."""
    middle = median(values)
    return 100 * (max(values) - min(values)) / middle if values and middle else float("nan")


def figure(values, digits=1):
    return f"{median(values):.{digits}f} +- {spread(values):.0f} %"


def measure(*words):
    """The figures that a program of bench/, built already, prints."""
    command = [str(BUILD / "bench" / words[0]), *map(str, words[1:])]
    result = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    if result.returncode:
        die(f"{' '.join(command)} failed with {result.returncode}")
    return key_values(result.stdout)


def key_values(text):
    """The last line of key=value words, numbers as numbers."""
    got = {}
    for word in text.strip().splitlines()[-1].split():
        key, _, value = word.partition("=")
        try:
            got[key] = float(value)
        except ValueError:
            got[key] = value
    return got


def table(head, rows, out):
    out.write("| " + " | ".join(head) + " |\n")
    out.write("|" + "|".join("---" if i == 0 else "---:" for i in range(len(head))) + "|\n")
    for row in rows:
        out.write("| " + " | ".join(row) + " |\n")


def put_section(path, title, text):
    """Makes text the section of that title in a Markdown file, the others stay."""
    path = pathlib.Path(path)
    old = path.read_text() if path.exists() else ""
    section = f"# {title}\n\n{text.strip()}\n"
    before, found, after = old.partition(f"# {title}\n")
    if found:
        rest = after.partition("\n# ")
        section += "\n" + rest[1][1:] + rest[2] if rest[1] else ""
    elif before:
        before = before.rstrip() + "\n\n"
    path.write_text(before + section)


class Kernel:
    """A memory group (cgroup v1) with a limit, and swap of its own: "zswap" before a
    swap file, a "zram" device, or a swap "file" alone.

    Swap is on only while a command runs: a daemon of the machine may push cold
    pages of anybody into it.  close() undoes everything; use as a context.
    """

    def __init__(self, directory, swap_bytes, compressor, swap="zswap"):
        why = self.why_not(swap)
        if why:
            die(f"no kernel side here: {why}")
        self.saved, self.group, self.swap_on = {}, None, False
        self.swap, self.zram = None, None
        self.kills, self.refaults, self.wall_s = 0, 0, 0
        try:
            self.set_zswap("enabled", "Y" if swap == "zswap" else "N")
            if swap == "zswap":
                self.set_zswap("compressor", compressor)
            if swap == "zram":
                self.add_zram(swap_bytes, compressor)
            else:
                fd, self.swap = tempfile.mkstemp(prefix="quire-bench-swap.", dir=directory)
                os.posix_fallocate(fd, 0, swap_bytes)
                os.close(fd)
            subprocess.run(["mkswap", "-q", self.swap], check=True,
                           stdout=subprocess.DEVNULL)
            group = self.mount() / f"quire-bench.{os.getpid()}"
            group.mkdir()
            self.group = group
        except BaseException:
            self.close()
            raise

    @staticmethod
    def mount():
        for line in open("/proc/mounts"):
            _, where, kind, options = line.split()[:4]
            if kind == "cgroup" and "memory" in options.split(","):
                return pathlib.Path(where)
        return None

    @classmethod
    def why_not(cls, swap="zswap"):
        if os.geteuid():
            return "not root"
        if not cls.mount():
            return "no cgroup v1 memory controller"
        if swap == "zswap" and not ZSWAP.exists():
            return "no zswap"
        if swap == "zram" and not ZRAM.exists():
            return "no zram"
        if len(open("/proc/swaps").readlines()) > 1:
            return "swap is already on"
        if not shutil.which("mkswap"):
            return "no mkswap"
        return None

    def set_zswap(self, name, value):
        if ZSWAP.exists():
            old = (ZSWAP / name).read_text().strip()
            (ZSWAP / name).write_text(value)
            self.saved[name] = old

    def add_zram(self, swap_bytes, compressor):
        """A device of our own, whatever there are."""
        number = (ZRAM / "hot_add").read_text().strip()
        self.zram = pathlib.Path(f"/sys/block/zram{number}")
        (self.zram / "comp_algorithm").write_text(compressor)
        (self.zram / "disksize").write_text(str(swap_bytes))
        self.swap = f"/dev/zram{number}"

    def close(self):
        """Not to be interrupted by a second ^C."""
        before = [signal.signal(number, signal.SIG_IGN) for number in ENDING]
        try:
            self.undo()
        finally:
            for number, handler in zip(ENDING, before):
                signal.signal(number, handler)

    def undo(self):
        if self.swap_on:
            subprocess.run(["swapoff", self.swap], check=False)
            self.swap_on = False
        for name in reversed(list(self.saved)):
            (ZSWAP / name).write_text(self.saved.pop(name))
        if self.group:
            for _ in range(50):
                try:
                    self.group.rmdir()
                    break
                except OSError:
                    time.sleep(0.1)
            self.group = None
        if self.zram:
            (ZRAM / "hot_remove").write_text(self.zram.name[len("zram"):])
            self.zram = None
        elif self.swap:
            os.unlink(self.swap)
        self.swap = None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def pool_bytes(self):
        """Compressed memory, outside the group's limit; zram knows its most."""
        if self.zram:
            return int((self.zram / "mm_stat").read_text().split()[4])
        for line in open("/proc/meminfo"):
            if line.startswith("Zswap:"):
                return int(line.split()[1]) * 1024
        return 0

    def stat(self, key):
        for line in open(self.group / "memory.stat"):
            if line.startswith(key + " "):
                return int(line.split()[1])
        return 0

    def run(self, limit, command, tries):
        """(stdout, peak of the group, peak pool) of a command in the group.

        Runs again what the kernel killed; stdout is None and the pool the
        largest of all runs when it did so in each of `tries` (see kills).
        refaults and wall_s are those of the run that was not killed.
        """
        largest = 0
        for _ in range(tries):
            if self.zram:
                (self.zram / "mem_used_max").write_text("0")
            subprocess.run(["swapon", self.swap], check=True)
            self.swap_on = True
            try:
                (self.group / "memory.limit_in_bytes").write_text(str(limit))
                (self.group / "memory.max_usage_in_bytes").write_text("0")
                before = self.stat("workingset_refault_anon")
                result, pool = self.watched(command)
                self.refaults = self.stat("workingset_refault_anon") - before
            finally:
                subprocess.run(["swapoff", self.swap], check=True)
                self.swap_on = False
            if result.returncode == 0:
                peak = int((self.group / "memory.max_usage_in_bytes").read_text())
                return result.stdout, peak, pool
            if result.returncode != -signal.SIGKILL:
                die(f"kernel cell failed: {command[0]} ended with {result.returncode}")
            self.kills += 1
            largest = max(largest, pool)
        return None, limit, largest

    def watched(self, command):
        peak, done = [0], threading.Event()

        def watch():
            while not done.wait(0.02):
                peak[0] = max(peak[0], self.pool_bytes())

        def enter():
            with open(self.group / "cgroup.procs", "w") as f:
                f.write(str(os.getpid()))

        watcher = threading.Thread(target=watch)
        watcher.start()
        start = time.monotonic()
        try:
            result = subprocess.run(command, stdout=subprocess.PIPE, text=True,
                                    preexec_fn=enter)
        finally:
            self.wall_s = time.monotonic() - start
            done.set()
            watcher.join()
        return result, max(peak[0], self.pool_bytes() if self.zram else 0)


def stop_signals():
    """SIGTERM and SIGHUP end the script as an exception does: clean-up runs."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda n, _: sys.exit(128 + n))
