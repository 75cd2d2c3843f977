# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# multiprocessing: four workers that inherit a large list by fork, and write to every page
# of it (reference counts); then four that start anew and get their part by a pipe.
. "$(dirname "$0")/lib.sh"
need python3
# At a third, four workers that walk all they have at the same time do little but wait:
# 3.4 million faults, 80 s.
TREE_SHARE=2

cat >"$work/pool.py" <<'PY'
import hashlib, multiprocessing, random, sys

rnd = random.Random(1)
items = []


def inherited(part):
    digest = hashlib.sha256()
    for item in items[part::16]:
        digest.update(item)
    return part, digest.hexdigest(), sorted(items[part::16])[::5000]


def given(args):
    part, mine = args
    mine.sort()
    return part, hashlib.sha256(b"".join(mine)).hexdigest()


def main():
    for i in range(int(sys.argv[1])):
        items.append(b"%x-%d " % (rnd.getrandbits(64), i) * rnd.randrange(1, 12))
    with multiprocessing.get_context("fork").Pool(4) as pool:
        for result in pool.map(inherited, range(64), chunksize=1):
            print("fork", *result)
    with multiprocessing.get_context("spawn").Pool(4) as pool:
        parts = ((part, items[part::16]) for part in range(16))
        for result in pool.imap(given, parts):
            print("spawn", *result)


if __name__ == "__main__":
    main()
PY
compare_tree env PYTHONHASHSEED=0 python3 "$work/pool.py" "$(by_size 120000 1500000)"
