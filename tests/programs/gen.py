#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Input for the programs: gen.py KIND BYTES|COUNT SEED > FILE

  text BYTES     lines of the Debian package index, each behind a seeded key
  wide BYTES     the same, ten lines joined to one
  tsv COUNT      package records: id, package, section, version, size, text
  files BYTES    shared objects and data files of this system, end to end
  copies BYTES   150,000 bytes of the index over and over, each time 1 byte in
                 1,000 changed
  c COUNT        COUNT seeded C functions that call each other

The same machine, arguments and seed give the same bytes.
"""
import os
import random
import subprocess
import sys

DOCS = ("share/perl", "share/doc", "share/common-licenses", "lib/python3")


def real_files(tops, suffixes, most):
    """Paths under /usr, sorted, so that no directory order shows."""
    paths, total = [], 0
    for top in tops:
        for base, dirs, names in os.walk(os.path.join("/usr", top)):
            dirs.sort()
            for name in sorted(names):
                path = os.path.join(base, name)
                if not name.endswith(suffixes) or not os.path.isfile(path):
                    continue
                if os.path.islink(path):
                    continue
                paths.append(path)
                total += os.path.getsize(path)
                if total >= most:
                    return paths
    return paths


def index():
    """The package index; without one (apt lists removed) other real text."""
    try:
        text = subprocess.run(["apt-cache", "dumpavail"], check=True,
                              stdout=subprocess.PIPE).stdout
    except (OSError, subprocess.CalledProcessError):
        text = b""
    if len(text) < 1 << 20:
        text = b""
        for path in real_files(DOCS, (".pm", ".pl", ".py", ".txt", "copyright"),
                               50 << 20):
            with open(path, "rb") as f:
                text += f.read()
    return text


def text(size, rnd, out, joined=1):
    lines = [line for line in index().splitlines() if line]
    lines = [b" ".join(lines[i:i + joined]) for i in range(0, len(lines), joined)]
    done = 0
    while done < size:
        line = b"%08x %s\n" % (rnd.getrandbits(32),
                               lines[rnd.randrange(len(lines))])
        line = line[:size - done - 1] + b"\n" if done + len(line) > size else line
        out.write(line)
        done += len(line)


def wide(size, rnd, out):
    text(size, rnd, out, 10)


def records():
    """Records of the index as tuples of bytes."""
    got = []
    for para in index().split(b"\n\n"):
        fields = {}
        for line in para.split(b"\n"):
            key, colon, value = line.partition(b": ")
            if colon and key not in fields:
                fields[key] = value.replace(b"\t", b" ")
        if fields:
            got.append((fields.get(b"Package", b"?"),
                        fields.get(b"Section", b"none"),
                        fields.get(b"Version", b"0"),
                        fields.get(b"Size", b"%d" % len(para)),
                        fields.get(b"Description", b"") + b" " +
                        fields.get(b"Depends", b"")))
    return got


def tsv(count, rnd, out):
    got = records()
    for i in range(count):
        row = got[rnd.randrange(len(got))]
        out.write(b"%d\t%s\n" % (i, b"\t".join(row)))


def files(size, rnd, out):
    tops = ("lib/x86_64-linux-gnu", "bin", "lib", "share")
    paths = [p for p in real_files(tops, (".so", ".a", ".py", ".txt", ".h"),
                                   4 * size)]
    for base, dirs, names in os.walk("/usr/lib"):
        dirs.sort()
        paths += [os.path.join(base, n) for n in sorted(names)
                  if ".so" in n and not os.path.islink(os.path.join(base, n))]
        if sum(os.path.getsize(p) for p in paths) > 6 * size:
            break
    rnd.shuffle(paths)
    done = 0
    while done < size:
        for path in paths:
            with open(path, "rb") as f:
                part = f.read(min(size - done, 4 << 20))
            out.write(part)
            done += len(part)
            if done >= size:
                return


def copies(size, rnd, out):
    block = index()[:150000]
    done = 0
    while done < size:
        part = bytearray(block[:size - done])
        for _ in range(len(part) // 1000):
            part[rnd.randrange(len(part))] = rnd.randrange(256)
        out.write(part)
        done += len(part)


def expression(rnd, depth):
    if depth == 0:
        return rnd.choice(("a", "b", "t", "s->v[i & 63]",
                           "%dul" % rnd.randrange(1, 1 << 20)))
    op = rnd.choice(("+", "-", "*", "^", "&", "|"))
    return "(%s %s %s)" % (expression(rnd, depth - 1), op,
                           expression(rnd, depth - 1))


def c(count, rnd, out):
    w = out.write
    w(b"struct s { unsigned long v[64]; struct s *next; };\n")
    for n in range(count):
        w(b"unsigned long f%d(struct s *s, unsigned long a, unsigned long b);\n" % n)
    for n in range(count):
        w(b"unsigned long f%d(struct s *s, unsigned long a, unsigned long b)\n"
          b"{\n\tunsigned long t = a ^ %dul;\n" % (n, rnd.getrandbits(32)))
        w(b"\tfor (unsigned i = 0; i < (b & 255); i++) {\n")
        w(b"\t\tswitch (t %% %du) {\n" % rnd.randrange(4, 12))
        for case in range(rnd.randrange(3, 7)):
            w(b"\t\tcase %d: t = %s; break;\n" %
              (case, expression(rnd, 3).encode()))
        w(b"\t\tdefault: s->v[i & 63] += %s; s = s->next ? s->next : s;\n\t\t}\n" %
          expression(rnd, 3).encode())
        w(b"\t\tif (t & %du)\n\t\t\tt += f%d(s, t, b / 2);\n\t}\n" %
          (1 << rnd.randrange(16), rnd.randrange(count)))
        w(b"\treturn t;\n}\n")


def main():
    kind, amount, seed = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    kinds = {"text": text, "wide": wide, "tsv": tsv, "files": files, "copies": copies, "c": c}
    kinds[kind](amount, random.Random(seed), sys.stdout.buffer)


main()
