"""HTTP/2 as bytes: just enough of RFC 9113 and RFC 7541 to misuse them on purpose."""

import socket
import struct

DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = 0, 1, 3, 4, 6, 7, 8, 9
END_STREAM, ACK, END_HEADERS = 1, 1, 4
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

ERRORS = [
    "NO_ERROR", "PROTOCOL_ERROR", "INTERNAL_ERROR", "FLOW_CONTROL_ERROR", "SETTINGS_TIMEOUT", "STREAM_CLOSED",
    "FRAME_SIZE_ERROR", "REFUSED_STREAM", "CANCEL", "COMPRESSION_ERROR", "CONNECT_ERROR", "ENHANCE_YOUR_CALM",
    "INADEQUATE_SECURITY", "HTTP_1_1_REQUIRED",
]  # fmt: skip


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def text(value: str) -> bytes:
    """A string of HPACK, shorter than 127 bytes, not Huffman-coded."""
    data = value.encode()
    assert len(data) < 127
    return bytes([len(data)]) + data


def head(method: str, path: str, key: str | None = None) -> bytes:
    """A field block that leaves the dynamic table alone, so that it may be sent again and again."""
    block = bytes([0x82 if method == "GET" else 0x83, 0x86])  # :method, :scheme http
    block += b"\x04" + text(path) + b"\x01" + text("g")
    if key:
        block += b"\x0f\x08" + text(f"Bearer {key}")
    return block


class Http2:
    """A connection that floods; it reads only to see its end."""

    def __init__(self, client: socket.socket):
        self.client = client
        client.settimeout(5)
        client.sendall(PREFACE + frame(SETTINGS, 0, 0))
        self.got = b""
        self.frames = 0
        self.goaway: int | None = None
        self.ended = False
        client.setblocking(False)

    def read(self) -> None:
        try:
            while piece := self.client.recv(65536):
                self.got += piece
            self.ended = True
        except BlockingIOError:
            pass
        except OSError:
            self.ended = True
        self._parse()

    def _parse(self) -> None:
        at = 0
        while len(self.got) - at >= 9:
            length = int.from_bytes(self.got[at : at + 3], "big")
            if len(self.got) - at < 9 + length:
                break
            self.frames += 1
            if self.got[at + 3] == GOAWAY:
                self.goaway = int.from_bytes(self.got[at + 13 : at + 17], "big")
            at += 9 + length
        self.got = self.got[at:]

    def send(self, data: bytes) -> int:
        """As much as the socket takes now; -1 when the connection is gone."""
        try:
            return self.client.send(data)
        except BlockingIOError:
            return 0
        except OSError:
            self.read()
            self.ended = True
            return -1

    def close(self) -> None:
        self.client.close()
