# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# node: V8's heap, reserved without access and opened piece by piece.
. "$(dirname "$0")/lib.sh"
need node

cat >"$work/objects.js" <<'JS'
const count = Number(process.argv[2]), width = Number(process.argv[3]),
	stride = Number(process.argv[4]);
let seed = 1;
function random() {
	seed = (Math.imul(seed, 1103515245) + 12345) & 0x7fffffff;
	return seed;
}
function numbers() {
	const values = new Array(width);
	for (let i = 0; i < width; i++)
		values[i] = (random() & 4095) / 4;
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
for (let i = 0; i < count; i += stride)
	hash.update(rows[i].key + rows[i].id + rows[i].next.id + rows[i].values);
console.log('sorted', hash.digest('hex'));
JS
# the sizes of V8's generations must not depend on the machine
compare -- node --max-old-space-size=1024 --max-semi-space-size=8 --single-threaded \
	"$work/objects.js" "$(by_size 35000 1000000)" "$(by_size 120 2)" "$(by_size 8 1)"
