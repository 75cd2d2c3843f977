# SPDX-License-Identifier: Apache-2.0
"""What the lints in dev/lint/ share: the list of files, C without comments,
function tables, exception files, the report.

A lint prints "file:line: message" for each finding and exits 1 if there was one.
Exceptions to a lint NAME are in dev/lint/NAME.allow, one a line: the key that
the lint looks up, then the reason.  An exception that matches nothing is itself
a finding.
"""
import json
import pathlib
import re
import shutil
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
NAME = pathlib.Path(sys.argv[0]).name

TOKEN = re.compile(r"//[^\n]*|/\*.*?\*/|\"(?:\\.|[^\"\\\n])*\"|'(?:\\.|[^'\\\n])*'", re.S)


def need(tool):
    """The path of a program, or exit naming what is missing."""
    path = shutil.which(tool)
    if not path:
        sys.exit(f"{NAME}: {tool} is missing; run 'make setup'")
    return path


def tracked(*patterns):
    """Files of the project (tracked or about to be) that match a glob."""
    out = subprocess.run(["git", "ls-files", "-z", "-co", "--exclude-standard", "--", *patterns],
                         cwd=ROOT, check=True, capture_output=True, text=True).stdout
    return [ROOT / name for name in sorted(set(out.split("\0"))) if name and
            (ROOT / name).is_file() and not (ROOT / name).is_symlink()]


def rel(path):
    return str(path.relative_to(ROOT))


def folders():
    return subprocess.run([ROOT / "dev/lib/sources", "folders"], check=True,
                          capture_output=True, text=True).stdout.split()


def text(path):
    return path.read_text(errors="replace")


def blank(match):
    """Spaces of the same shape, so that line numbers stay right."""
    return re.sub(r"[^\n]", " ", match[0])


def code(path):
    """C without comments, strings and character constants."""
    return TOKEN.sub(blank, text(path))


def code_with_strings(path):
    return TOKEN.sub(lambda m: blank(m) if m[0].startswith("/") else m[0], text(path))


def comments(path):
    """(line, text) of each comment."""
    content = text(path)
    for match in TOKEN.finditer(content):
        if match[0].startswith("/"):
            yield content.count("\n", 0, match.start()) + 1, match[0]


def functions(paths):
    """Function definitions: dicts with path, name, line, end, file (static)."""
    if not paths:
        return []
    need("ctags")
    out = subprocess.run(["ctags", "--languages=C", "--kinds-C=f", "--fields=+nef",
                          "--output-format=json", "-f", "-", *map(str, paths)],
                         check=True, capture_output=True, text=True).stdout
    return [json.loads(line) for line in out.splitlines()]


class Report:
    def __init__(self):
        self.nr = 0
        self.allowed = {}
        self.used = set()
        path = ROOT / "dev/lint" / f"{NAME}.allow"
        for line in text(path).splitlines() if path.exists() else []:
            if line.strip() and not line.startswith("#"):
                key, _, reason = line.partition(" ")
                self.allowed[key] = reason.strip()

    def allows(self, key):
        self.used.add(key)
        return key in self.allowed

    def finding(self, path, line, message):
        self.nr += 1
        where = rel(path) if isinstance(path, pathlib.Path) else path
        print(f"{where}:{line}: {message}")

    def done(self):
        for key, reason in self.allowed.items():
            if key not in self.used:
                self.finding(f"dev/lint/{NAME}.allow", 0, f"{key}: nothing needs this exception")
            elif not reason:
                self.finding(f"dev/lint/{NAME}.allow", 0, f"{key}: no reason given")
        sys.exit(1 if self.nr else 0)
