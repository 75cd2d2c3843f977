# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# node: V8's heap, reserved without access and opened piece by piece.
. "$(dirname "$0")/lib.sh"
need node

cat >"$work/objects.js" <<'JS'
const count = Number(process.argv[2]), width = Number(process.argv[3]);
let seed = 1;
function random() {
	seed = (Math.imul(seed, 1103515245) + 12345) & 0x7fffffff;
	return seed;
}
function numbers() {
	const values = new Array(width);
	for (let i = 0; i < width; i++)
		values[i] = random() / 3;
	return values;
}
const rows = [];
for (let i = 0; i < count; i++)
	rows.push({ id: i, key: 'k' + random().toString(36), next: null, values: numbers() });
for (let i = 0; i < count; i++)
	rows[i].next = rows[random() % count];
const byKey = new Map(rows.map((row) => [row.key, row]));
let sum = 0, at = rows[0];
for (let i = 0; i < count; i++) {
	sum = (sum + at.id + at.values[i & 1]) % 1000000007;
	at = at.next === at ? rows[i] : at.next;
}
console.log('walk', sum, byKey.size);
rows.sort((a, b) => (a.key < b.key ? -1 : a.key > b.key ? 1 : a.id - b.id));
const hash = require('crypto').createHash('sha256');
for (const row of rows)
	hash.update(row.key + row.id + row.next.id + row.values);
console.log('sorted', hash.digest('hex'));
JS
# the sizes of V8's generations must not depend on the machine
compare -- node --max-old-space-size=1024 --max-semi-space-size=8 --single-threaded \
	"$work/objects.js" "$(by_size 50000 1000000)" "$(by_size 120 2)"
