"""Speaks on a port what it is told to: `silent` never says a word, `certificates` is TLS that asks clients for one, `http2` answers the preface
of HTTP/2 beside HTTP/1.1, and `http2-only` closes to all else.
"""

import socketserver
import ssl
import sys

PREFACE = b"PRI * HTTP/2.0"
SETTINGS = b"\0\0\0\x04\0\0\0\0\0"
PORT, WHAT = int(sys.argv[1]), sys.argv[2]


class Connection(socketserver.BaseRequestHandler):
    def handle(self):
        if WHAT == "certificates":
            context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
            context.load_cert_chain(sys.argv[3])
            context.verify_mode = ssl.CERT_OPTIONAL
            try:
                self.request = context.wrap_socket(self.request, server_side=True)
            except (OSError, ssl.SSLError):
                return
        said = b""
        while part := self.read():
            said += part
            if WHAT == "silent":
                continue
            if WHAT.startswith("http2") and said.startswith(PREFACE):
                said = b""
                self.request.sendall(SETTINGS)
            elif WHAT == "http2-only":
                return
            elif said.endswith(b"\n"):
                said = b""
                self.request.sendall(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")

    def read(self):
        try:
            return self.request.recv(65536)
        except OSError:
            return b""


class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True


server = Server(("127.0.0.1", PORT), Connection)
with open("/tmp/speaks", "w") as ready:
    ready.write(":%d\n" % PORT)
server.serve_forever()
