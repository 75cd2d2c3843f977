# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# python3: millions of small objects in arenas of 1 MiB made by mmap.
. "$(dirname "$0")/lib.sh"
need python3

cat >"$work/objects.py" <<'PY'
import hashlib, random, sys
count, width = int(sys.argv[1]), int(sys.argv[2])
rnd = random.Random(1)
strings = ["%x-%d" % (rnd.getrandbits(64), i) * width for i in range(count)]
table = {s: (i, s[:8]) for i, s in enumerate(strings)}
strings.sort()
digest = hashlib.sha256()
for s in strings:
    digest.update(s.encode())
print("sorted", len(strings), digest.hexdigest())
groups = {}
for s, (i, head) in table.items():
    groups.setdefault(head[:3], []).append(i)
digest = hashlib.sha256()
for key in sorted(groups):
    digest.update(("%s %d %d\n" % (key, len(groups[key]), sum(groups[key]))).encode())
print("groups", len(groups), digest.hexdigest())
for s in rnd.sample(strings, 10):
    print(s, table[s])
PY
compare -- env PYTHONHASHSEED=0 python3 "$work/objects.py" "$(by_size 60000 1000000)" "$(by_size 30 1)"
