"""A proxy that carries connections (CONNECT), as companies put before the internet."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress


class Gateway:
    """Connects whoever asks to `target`, whatever name was asked for. A context manager.

    `answer` is what it says to each CONNECT.
    """

    def __init__(
        self,
        target: tuple[str, int],
        *,
        answer: bytes = b"HTTP/1.1 200 Connection established\r\n\r\n",
    ) -> None:
        self._target = target
        self._answer = answer
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._threads = [threading.Thread(target=self._accept)]
        self._sockets = [self._listener]
        self.heads: list[str] = []
        """What was asked of it, one head a connection."""

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self._listener.getsockname()[1]}"

    def __enter__(self) -> Gateway:
        self._threads[0].start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        for one in self._sockets:
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        for one in self._sockets:
            one.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                self._sockets.append(client)
                self._run(self._serve, client)

    def _run(self, work: object, *args: socket.socket) -> None:
        thread = threading.Thread(target=work, args=args)  # type: ignore[arg-type]  # a bound method
        self._threads.append(thread)
        thread.start()

    def _serve(self, client: socket.socket) -> None:
        with suppress(OSError):
            head = b""
            while not head.endswith(b"\r\n\r\n") and (byte := client.recv(1)):
                head += byte
            self.heads.append(head.decode())
            client.sendall(self._answer)
            if b" 200 " in self._answer:
                server = socket.create_connection(self._target)
                self._sockets.append(server)
                self._run(_carry, server, client)
                _carry(client, server)
            else:
                client.shutdown(socket.SHUT_RDWR)


def _carry(source: socket.socket, sink: socket.socket) -> None:
    with suppress(OSError):
        while content := source.recv(1 << 16):
            sink.sendall(content)
    with suppress(OSError):
        sink.shutdown(socket.SHUT_WR)
