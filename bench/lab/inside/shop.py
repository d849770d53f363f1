"""A shop's web tier: asks redis for what people want, and puts in what is not there; half-way the goods change."""

import argparse
import itertools
import json
import os
import random
import socket
import time

STEP_S = 0.2
REPORT_EVERY_S = 1.0
GOODS = 4096
ZIPF = 0.8
ADDRESS = ("127.0.0.1", 6379)


class LostError(Exception):
    """The server hung up or is not there."""


class Redis:
    """One connection, for as long as the server lives."""

    def __init__(self):
        try:
            self.socket = socket.create_connection(ADDRESS, timeout=5)
        except OSError as error:
            raise LostError from error
        self.file = self.socket.makefile("rb")

    def ask(self, commands):
        """Send commands, each a list of words, in one go; return their answers, None for what is not there."""
        try:
            self.socket.sendall(b"".join(
                b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in words)
                for words in commands))
            return [self.answer() for _ in commands]
        except OSError as error:
            raise LostError from error

    def answer(self):
        """Read one answer."""
        line = self.file.readline()
        if not line:
            raise LostError
        if line[:1] != b"$":
            return line[1:].strip()
        size = int(line[1:])
        return None if size < 0 else self.file.read(size + 2)[:-2]

    def close(self):
        """Hang up."""
        self.file.close()
        self.socket.close()


def serve(redis, numbers, goods, value):
    """Answer requests; return how many came from the cache."""
    keys = [b"goods:%d:%d" % (goods, number) for number in numbers]
    found = redis.ask([[b"GET", key] for key in keys])
    redis.ask([[b"SET", key, value] for key, there in zip(keys, found, strict=True) if there is None])
    return sum(there is not None for there in found)


def main():
    """Run until somebody ends it."""
    parser = argparse.ArgumentParser()
    for name, kind in (("value", int), ("rate", float), ("seed", int), ("change-after", float)):
        parser.add_argument(f"--{name}", type=kind)
    parser.add_argument("--report")
    args = parser.parse_args()
    chance = random.Random(args.seed)
    value = b"".join(chance.randbytes(32) + b"the same words again and again  " for _ in range(args.value // 64))
    weights = list(itertools.accumulate(1 / (n + 1) ** ZIPF for n in range(GOODS)))
    report = os.open(args.report, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    redis, life, start_s = None, 0, clock_s()
    asked = answered = hits = 0
    reported_s = -REPORT_EVERY_S
    while True:
        t_s = clock_s() - start_s
        due = int(args.rate * t_s) - asked
        asked += due
        numbers = chance.choices(range(GOODS), cum_weights=weights, k=min(due, int(2 * args.rate)))
        try:
            if redis is None:
                redis = Redis()
                life += 1
            answered += len(numbers)
            hits += serve(redis, numbers, int(t_s >= args.change_after), value)
        except LostError:
            if redis is not None:
                redis.close()
            redis = None
        if redis is not None and t_s - reported_s >= REPORT_EVERY_S:
            reported_s = t_s
            line = {"life": life, "t_s": start_s + t_s, "answered": answered, "hits": hits, "evicted_bytes": 0}
            os.write(report, json.dumps(line).encode() + b"\n")
        time.sleep(max(0.0, start_s + (int(t_s / STEP_S) + 1) * STEP_S - clock_s()))


def clock_s():
    """Return the time since boot."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


if __name__ == "__main__":
    main()
