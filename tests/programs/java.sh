# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# java: a heap reserved by mmap, committed by MAP_FIXED over it, and moved by GC.
. "$(dirname "$0")/lib.sh"
need java javac

cat >"$work/Objects.java" <<'JAVA'
import java.util.*;

public class Objects {
	record Row(int id, String key, long[] values) {}

	public static void main(String[] args) throws Exception {
		int count = Integer.parseInt(args[0]), width = Integer.parseInt(args[1]);
		Random random = new Random(1);
		List<Row> rows = new ArrayList<>();
		Map<String, Row> byKey = new HashMap<>();
		for (int i = 0; i < count; i++) {
			long a = random.nextLong(), b = random.nextLong();
			long[] values = new long[width];
			for (int k = 0; k < width; k++)
				values[k] = (a * k >>> 52) + i;
			Row row = new Row(i, Long.toString(a, 36), values);
			rows.add(row);
			byKey.put(row.key(), row);
		}
		rows.sort(Comparator.comparing(Row::key));
		long sum = 0;
		for (Row row : rows)
			sum = sum * 31 + row.id() + row.values()[row.id() & 3];
		System.out.println("sorted " + count + " " + sum);
		for (int i = 0; i < count; i++) {
			Row row = rows.get(random.nextInt(count));
			if (byKey.get(row.key()) != row)
				throw new AssertionError(row.key());
			sum = sum * 31 + row.values()[2];
		}
		System.out.println("found " + sum);
	}
}
JAVA
javac -d "$work" "$work/Objects.java" || fail "javac"
# the JVM alone uses 16 MiB; few large objects where time is short
mb=$(by_size 140 300)
compare -- java -XX:+UseSerialGC -Xms"${mb}m" -Xmx"${mb}m" -Xmn16m -Xshare:auto \
	-cp "$work" Objects "$(by_size 8000 1300000)" "$(by_size 1600 4)"
