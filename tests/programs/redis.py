# SPDX-License-Identifier: Apache-2.0
"""redis.py SOCKET COUNT session|snapshot|saves|aof: drive a redis-server and check it.

session   fill COUNT keys, read all back, BGSAVE, overwrite every tenth key while
          the child writes its snapshot, wait for it, read all back, shut down
snapshot  the server has loaded that RDB file: everything must be as it was when
          BGSAVE was asked for; shut down
saves     fill COUNT keys, BGSAVE, then BGREWRITEAOF, keys being overwritten as long as
          each takes; read all back, shut down.  How long the forks took goes to stderr
aof       the server has loaded that append-only file: everything must be as it was last

Prints the same for every right run: what was verified, and digests.
"""
import hashlib
import itertools
import os
import random
import socket
import subprocess
import sys
import time

BATCH = 500


def material():
    """A text to cut values from: the same in every run on this machine."""
    out = subprocess.run(["apt-cache", "dumpavail"], stdout=subprocess.PIPE).stdout
    rnd = random.Random(7)
    return (out or b"no package index here " * 4000)[:8 << 20] + rnd.randbytes(1 << 20)


class Redis:
    def __init__(self, path):
        deadline = time.monotonic() + 120
        while True:
            try:
                self.sock = socket.socket(socket.AF_UNIX)
                self.sock.connect(path)
                break
            except OSError:
                self.sock.close()
                if time.monotonic() > deadline:
                    sys.exit("redis-server does not answer")
                time.sleep(0.05)
        self.file = self.sock.makefile("rb", 1 << 20)
        while self.ask(b"PING") != b"PONG":  # -LOADING
            time.sleep(0.05)

    def send(self, commands):
        out = []
        for words in commands:
            out.append(b"*%d\r\n" % len(words))
            out.extend(b"$%d\r\n%b\r\n" % (len(w), w) for w in words)
        self.sock.sendall(b"".join(out))

    def read(self):
        line = self.file.readline()
        kind, rest = line[:1], line[1:-2]
        if kind in (b"+", b"-"):
            return rest
        if kind == b":":
            return int(rest)
        if kind == b"$":
            if rest == b"-1":
                return None
            return self.file.read(int(rest) + 2)[:-2]
        if kind == b"*":
            return [self.read() for _ in range(int(rest))]
        sys.exit(f"redis-server is gone (answer {line!r})")

    def ask(self, *words):
        self.send([words])
        return self.read()

    def info(self, key):
        for line in self.ask(b"INFO").split(b"\r\n"):
            if line.startswith(key + b":"):
                return line.split(b":", 1)[1]
        sys.exit(f"INFO has no {key!r}")


class Data:
    def __init__(self, count):
        self.count, self.text = count, material()

    def value(self, i, version):
        rnd = random.Random(i * 4 + version)
        length = 1 << rnd.randrange(6, 13)
        at = rnd.randrange(len(self.text) - length)
        return b"%d.%d:" % (i, version) + self.text[at:at + length]

    @staticmethod
    def key(i):
        return b"key:%d" % i


def fill(redis, data, keys, version):
    keys = list(keys)
    for start in range(0, len(keys), BATCH):
        part = keys[start:start + BATCH]
        redis.send([(b"SET", data.key(i), data.value(i, version)) for i in part])
        for _ in part:
            if redis.read() != b"OK":
                sys.exit("SET refused")


def verify(redis, data, version_of, what):
    digest, total = hashlib.sha256(), 0
    for start in range(0, data.count, BATCH):
        part = range(start, min(start + BATCH, data.count))
        redis.send([(b"GET", data.key(i)) for i in part])
        for i in part:
            found, expected = redis.read(), data.value(i, version_of(i))
            if found != expected:
                sys.exit(f"{what}: wrong value of key {i}: {str(found)[:80]}, "
                         f"not {str(expected)[:80]}")
            digest.update(found)
            total += len(found)
    print(f"{what}: {data.count} values, {total} bytes right, {digest.hexdigest()}")


def session(redis, data, path):
    redis.ask(b"DEL", b"list")
    fill(redis, data, range(data.count), 0)
    for i in range(0, 100000, 10):
        redis.send([(b"RPUSH", b"list", *(b"%d" % (i + k) for k in range(10)))])
        redis.read()
    verify(redis, data, lambda i: 0, "filled")
    if redis.ask(b"BGSAVE") not in (b"Background saving started", b"Background saving scheduled"):
        # a save point of the default configuration was faster: wait, once more
        while redis.info(b"rdb_bgsave_in_progress") != b"0":
            time.sleep(0.05)
        redis.ask(b"BGSAVE")
    fill(redis, data, range(0, data.count, 10), 1)
    while redis.info(b"rdb_bgsave_in_progress") != b"0":
        time.sleep(0.05)
    # save points may write another one later
    folder = os.path.dirname(path)
    os.rename(os.path.join(folder, "dump.rdb"), os.path.join(folder, "snapshot.rdb"))
    print("bgsave:", redis.info(b"rdb_last_bgsave_status").decode())
    verify(redis, data, lambda i: i % 10 == 0, "overwritten")
    print("list:", hashlib.sha256(b",".join(redis.ask(b"LRANGE", b"list", b"0", b"-1"))).hexdigest())


def overwrite_while(redis, data, key):
    """Every third key, again and again: at least once, and until INFO's key is 0."""
    for version in itertools.cycle((1, 2, 3)):
        fill(redis, data, range(0, data.count, 3), version)
        if redis.info(key) == b"0":
            return


def saves(redis, data, path):
    fill(redis, data, range(data.count), 0)
    for command, busy, status in ((b"BGSAVE", b"rdb_bgsave_in_progress", b"rdb_last_bgsave_status"),
                                  (b"BGREWRITEAOF", b"aof_rewrite_in_progress",
                                   b"aof_last_bgrewrite_status")):
        if b"started" not in redis.ask(command):
            sys.exit(f"{command} refused")
        overwrite_while(redis, data, busy)
        print(command.decode(), redis.info(status).decode())
        print(command.decode(), redis.info(b"latest_fork_usec").decode(), file=sys.stderr)
        if command == b"BGSAVE":
            os.rename(os.path.join(os.path.dirname(path), "dump.rdb"),
                      os.path.join(os.path.dirname(path), "snapshot.rdb"))
    fill(redis, data, range(0, data.count, 10), 1)
    fill(redis, data, range(0, data.count, 3), 2)
    aof(redis, data)


def aof(redis, data):
    verify(redis, data, lambda i: 2 if i % 3 == 0 else i % 10 == 0, "aof")
    print("digest:", redis.ask(b"DEBUG", b"DIGEST").decode())


def main():
    path, count, what = sys.argv[1], int(sys.argv[2]), sys.argv[3]
    redis, data = Redis(path), Data(count)
    if what == "session":
        session(redis, data, path)
    elif what == "saves":
        saves(redis, data, path)
    elif what == "aof":
        aof(redis, data)
    else:
        verify(redis, data, lambda i: 0, "snapshot")
        print("list:", hashlib.sha256(
            b",".join(redis.ask(b"LRANGE", b"list", b"0", b"-1"))).hexdigest())
    redis.send([(b"SHUTDOWN", b"NOSAVE")])


if __name__ == "__main__":
    main()
