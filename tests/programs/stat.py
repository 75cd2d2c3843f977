# SPDX-License-Identifier: Apache-2.0
"""stat.py FILE KEY[+KEY]...: figures of `quire run --stats=json`, added up.

A KEY is a path: stat.zswpout, faults.hard, peak.
"""
import json
import sys

with open(sys.argv[1]) as f:
    report = json.load(f)
total = 0
for key in sys.argv[2].split("+"):
    value = report
    for word in key.split("."):
        value = value[word]
    total += value
print(total)
