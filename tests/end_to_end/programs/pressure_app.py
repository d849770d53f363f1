"""Listen at MEMORY_PRESSURE_WATCH, a socket, and print a line for every byte that comes."""

import os
import socket
import sys

with socket.socket(socket.AF_UNIX) as connection:
    connection.connect(os.environ["MEMORY_PRESSURE_WATCH"])
    connection.send(b"some 200000 2000000\0")
    print("listening", flush=True)
    while connection.recv(1):
        print("heard", flush=True)
sys.exit("the producer has hung up")
