"""A crowd on the control socket: subscribers, clients with many hooks, and messages at a rate; says how many it sent.

    python bench/crowd.py SOCKET SECONDS MESSAGES_PER_S BATCH_S

Every BATCH_S the messages due are sent, one to a client in turn: 0.005 is a stream, 0.1 a burst of all clients at once.
"""

from __future__ import annotations

import select
import socket
import sys
import time

HOOKS, HOOKED, SUBSCRIBERS, SENDERS = 1_000, 20, 100, 60

path, seconds, rate, batch_s = sys.argv[1], *map(float, sys.argv[2:])
poller, clients = select.epoll(), {}


def connect():
    """Return a client whose answers are read and thrown away, by `drain`."""
    client = socket.socket(socket.AF_UNIX)
    client.connect(path)
    clients[client.fileno()] = client
    poller.register(client, select.EPOLLIN)
    return client


def drain(timeout_s):
    """Read what came."""
    for fd, _events in poller.poll(timeout_s):
        if not clients[fd].recv(1 << 16):
            raise SystemExit("the guard hung up")


hooked = [connect() for _ in range(HOOKED)]
for number in range(HOOKS):
    hooked[number % HOOKED].sendall(b'{"op":"register","name":"h%d","cost":5}\n' % number)
    if number % 500 == 499:
        time.sleep(0.5)         # within each client's 50 at once
for subscriber in [connect() for _ in range(SUBSCRIBERS)]:
    subscriber.sendall(b'{"op":"subscribe"}\n')
drain(0.5)
gauge = b'{"op":"gauge","hook":"h%d","evictable_bytes":5000000}\n'
talking = [(client, gauge % number) for number, client in enumerate(hooked)]
talking += [(connect(), b'{"op":"state","phase":"playback"}\n') for _ in range(SENDERS)]
print("ready", flush=True)
sent, begin = 0, time.monotonic()
while (now := time.monotonic()) < begin + seconds:
    due = int((now - begin) * rate)
    for each in range(sent, due):
        client, line = talking[each % len(talking)]
        client.sendall(line)
    sent = due
    until = now + batch_s
    while (left := until - time.monotonic()) > 0:
        drain(left)
print(round(sent / (time.monotonic() - begin)))
