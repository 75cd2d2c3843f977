# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# sqlite3: package records in a :memory: database, indexed, joined, sorted.
. "$(dirname "$0")/lib.sh"
need sqlite3 python3

gen tsv "$(by_size 70000 400000)" 1 >"$work/rows.tsv"
cat >"$work/in.sql" <<SQL
.mode ascii
.separator "\t" "\n"
CREATE TABLE p (id INTEGER PRIMARY KEY, name TEXT, section TEXT, version TEXT, size INTEGER, text TEXT);
.import $work/rows.tsv p
CREATE INDEX p_name ON p (name, version);
CREATE INDEX p_size ON p (size);
SELECT count(*), sum(size), sum(length(text)) FROM p;
SELECT section, count(*), max(size), min(text) FROM p GROUP BY section ORDER BY section;
SELECT a.name, count(*) FROM p a JOIN p b ON b.id = (a.id * 7919 + 13) % 100000 WHERE a.id % 10 = 0 GROUP BY a.name ORDER BY 2 DESC, 1 LIMIT 20;
UPDATE p SET text = upper(text) WHERE id % 7 = 3;
DELETE FROM p WHERE id % 11 = 5;
SELECT name, length(text), substr(text, 1, 40) FROM p ORDER BY text, id LIMIT 20;
SELECT count(*), sum(length(text)) FROM p WHERE name BETWEEN 'lib' AND 'lic';
PRAGMA integrity_check;
SQL
# -batch -init /dev/null: nobody's settings
compare -i "$work/in.sql" -- sqlite3 -batch -init /dev/null :memory:
