"""A TCP stream: `sink ADDRESS PORT` swallows any number, one after the other; `source ADDRESS PORT SECONDS` prints bytes a second."""

import socket
import sys
import time

CHUNK = 1 << 20


def sink(address, port):
    listener = socket.create_server((address, port))
    print("listening", flush=True)
    while True:
        stream, _ = listener.accept()
        with stream:
            # MSG_TRUNC: the kernel throws away what came, and copies nothing (tcp(7)).
            while stream.recv(CHUNK, socket.MSG_TRUNC):
                pass


def source(address, port, seconds):
    chunk, sent = bytes(CHUNK), 0
    with socket.create_connection((address, port), timeout=60) as stream:
        begun = time.monotonic()
        while time.monotonic() - begun < seconds:
            sent += stream.send(chunk)
        stream.shutdown(socket.SHUT_WR)
        stream.recv(1)  # the other end closes when it has everything
        print(sent / (time.monotonic() - begun))


if __name__ == "__main__":
    if sys.argv[1] == "sink":
        sink(sys.argv[2], int(sys.argv[3]))
    else:
        source(sys.argv[2], int(sys.argv[3]), float(sys.argv[4]))
