"""Stores values that do not compress in a redis at a steady pace: feed_redis.py SOCKET MIB_PER_S SECONDS."""

import os
import socket
import sys
import time

VALUE_BYTES = 16384
link = socket.socket(socket.AF_UNIX)
give_up_s = time.monotonic() + 10.0
while True:
    try:
        link.connect(sys.argv[1])
        break
    except OSError:
        if time.monotonic() > give_up_s:
            raise
        time.sleep(0.05)
pause_s, until_s, number = VALUE_BYTES / (float(sys.argv[2]) * (1 << 20)), time.monotonic() + float(sys.argv[3]), 0
next_s = time.monotonic()
while time.monotonic() < until_s:
    key, value = f"key:{number}".encode(), os.urandom(VALUE_BYTES)
    words = (b"SET", key, value)
    try:
        link.sendall(b"*3\r\n" + b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in words))
        if not link.recv(4096):
            break
    except OSError:
        break                   # it was killed
    number, next_s = number + 1, next_s + pause_s
    time.sleep(max(0.0, next_s - time.monotonic()))
