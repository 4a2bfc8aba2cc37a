"""The smallest Redis client there is: enough to send a command, on any event loop."""

from __future__ import annotations

import socket

import pytest


class Client:
    """RESP2 over one socket, blocking: a test that needs concurrency brings a real client."""

    def __init__(self, server):
        self.socket = socket.create_connection((server.host, server.port), 5)
        self.stream = self.socket.makefile("rb")
        self.sent = 0

    async def __call__(self, *parts):
        return self.send(*parts)

    def send(self, *parts):
        self.sent += 1
        data = [str(part).encode() for part in parts]
        self.socket.sendall(b"*%d\r\n" % len(data) + b"".join(b"$%d\r\n%b\r\n" % (len(d), d) for d in data))
        return self.reply()

    def reply(self):
        kind, line = (head := self.stream.readline())[:1], head[1:-2]
        if kind == b"-":
            raise RuntimeError(line.decode())
        if kind == b"*":
            return [self.reply() for _ in range(int(line))]
        if kind == b"$":
            return None if int(line) < 0 else self.stream.read(int(line) + 2)[:-2]
        return int(line) if kind == b":" else line.decode()

    def close(self):
        self.stream.close()
        self.socket.close()


@pytest.fixture
def client(redis_server):
    client = Client(redis_server)
    yield client
    client.close()
