"""A server for tests/unprobed.rs, and one client."""

import select
import socket
import ssl
import sys
import threading
import time

ANSWER = 4


def frame(kind, flags, stream, payload=b""):
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


def h2(c):
    preface = c.recv(24, socket.MSG_WAITALL)
    if not preface.startswith(b"PRI"):
        return
    c.sendall(frame(4, 0, 0))
    while head := c.recv(9, socket.MSG_WAITALL):
        length = int.from_bytes(head[:3], "big")
        payload = c.recv(length, socket.MSG_WAITALL) if length else b""
        kind, flags, stream = head[3], head[4], int.from_bytes(head[5:], "big")
        if kind == 1:
            threading.Timer(ANSWER, c.sendall, [frame(1, 5, stream, b"\x88")]).start()
        elif kind == 4 and not flags:
            c.sendall(frame(4, 1, 0))
        elif kind == 6:
            c.sendall(frame(6, 1, 0, payload))
            print("ping")


def tls(c):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(sys.argv[2], sys.argv[3])
    c = context.wrap_socket(c, server_side=True, do_handshake_on_connect=False)
    c.setblocking(False)
    while True:
        try:
            c.do_handshake()
            break
        except ssl.SSLWantReadError:
            select.select([c], [], [])
            # The client's last word of the handshake is read when its request is there: tickets follow that.
            time.sleep(0.1)
    c.setblocking(True)
    if c.recv(1000):
        print("request")
        time.sleep(ANSWER)
        c.sendall(b"answered")


def closes(c):
    c.recv(1000)


def silent(c):
    while c.recv(1000):
        pass


def serve(c):
    print("connection")
    try:
        with c:
            {"h2": h2, "tls": tls, "closes": closes, "silent": silent}[sys.argv[1]](c)
    except OSError:
        pass


if sys.argv[1] == "client":
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    s = context.wrap_socket(socket.create_connection(("127.0.0.1", int(sys.argv[2]))))
    s.sendall(b"GET / HTTP/1.1\r\nHost: lab\r\n\r\n")
    print(s.recv(1000).decode(), flush=True)
    # Open for as long as an answer may go on.
    time.sleep(3)
    sys.exit()

listener = socket.create_server(("127.0.0.1", 0))
print(listener.getsockname()[1])
while True:
    threading.Thread(target=serve, args=[listener.accept()[0]], daemon=True).start()
