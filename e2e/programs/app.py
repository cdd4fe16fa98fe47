"""What the hosts serve: once as a plain threaded server, once as a WSGI application.

The plain server keeps connections alive and dies at once on SIGTERM, like most programs that nobody taught better.
"""

import http.server
import os
import queue
import ssl
import sys
import time
import urllib.parse

HOST = os.environ.get("LAB_HOST", "-")
# Where every request asks a PostgreSQL: a host or a folder with its socket.
DATABASE = os.environ.get("LAB_DATABASE")
BLOCK = bytes(i % 251 for i in range(251 * 256))


class Pool:
    """Connections that go from one request to the next, and no more than the server takes."""

    def __init__(self, most):
        self.free = queue.LifoQueue()
        for _ in range(most):
            self.free.put(None)

    def ask(self, query):
        connection = self.free.get()
        try:
            if connection is None:
                connection = psycopg2.connect(host=DATABASE, user="postgres", dbname="postgres")
                connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute(query)
                cursor.fetchall()
        except psycopg2.Error:
            connection = None
            raise
        finally:
            self.free.put(connection)


if DATABASE:
    import psycopg2

    POOL = Pool(60)


def asked(parts, slow):
    """The same parts, with a question to the database before and after each: a request that lasts needs it to its end."""
    POOL.ask("SELECT pg_sleep(%f)" % slow)
    for part in parts:
        POOL.ask("SELECT 1")
        yield part
    POOL.ask("SELECT 1")


def blocks(count):
    while count > 0:
        yield BLOCK[:count]
        count -= len(BLOCK)


def chunks(seconds, gap):
    for number in range(int(seconds / gap) + 1):
        if number:
            time.sleep(gap)
        yield b"chunk %d\n" % number


def forever(gap):
    while True:
        yield b"and on\n"
        time.sleep(gap)


def slept(seconds):
    time.sleep(seconds)
    yield b"done\n"


def received(read, length):
    count = total = 0
    while count < length:
        piece = read(min(length - count, 65536))
        if not piece:
            break
        count += len(piece)
        total += sum(piece)
    yield b"%d bytes, sum %d\n" % (count, total)


def respond(path, read, length):
    """The length of the answer, if known beforehand, and its parts."""
    path, _, query = path.partition("?")
    given = {name: float(values[0]) for name, values in urllib.parse.parse_qs(query).items()}
    if not DATABASE or path == "/health":
        return answer(path, given, read, length)
    if path == "/slow":
        return 5, asked([b"done\n"], given["s"])
    length, parts = answer(path, given, read, length)
    return length, asked(parts, 0)


def answer(path, given, read, length):
    if path == "/slow":
        return 5, slept(given["s"])
    if path == "/stream":
        return None, chunks(given["s"], given["gap"])
    if path == "/download":
        return int(given["bytes"]), blocks(int(given["bytes"]))
    if path == "/upload":
        return None, received(read, length)
    if path == "/forever":
        return None, forever(given["gap"])
    return 3, [b"ok\n"]


def application(environ, start_response):
    path = environ["PATH_INFO"] + "?" + environ.get("QUERY_STRING", "")
    length, parts = respond(path, environ["wsgi.input"].read, int(environ.get("CONTENT_LENGTH") or 0))
    headers = [("X-Host", HOST)] + ([("Content-Length", str(length))] if length is not None else [])
    start_response("200 OK", headers)
    return parts


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_GET(self):
        length, parts = respond(self.path, self.rfile.read, int(self.headers.get("Content-Length") or 0))
        parts = iter(parts)
        first = next(parts)
        self.send_response(200)
        self.send_header("X-Host", HOST)
        if length is None:
            self.send_header("Transfer-Encoding", "chunked")
        else:
            self.send_header("Content-Length", str(length))
        self.end_headers()
        self.part(first, length)
        for part in parts:
            self.part(part, length)
        if length is None:
            self.wfile.write(b"0\r\n\r\n")

    do_POST = do_GET

    def part(self, data, length):
        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data) if length is None else data)

    def log_message(self, *words):
        pass


class Server(http.server.ThreadingHTTPServer):
    request_queue_size = 128


class TlsServer(Server):
    """Ends TLS 1.3 itself, in the thread of each connection."""

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3

    def get_request(self):
        stream, peer = super().get_request()
        return self.context.wrap_socket(stream, server_side=True, do_handshake_on_connect=False), peer

    def handle_error(self, request, client_address):
        pass


if __name__ == "__main__":
    address = ("0.0.0.0", int(sys.argv[1]))
    if len(sys.argv) > 2:
        TlsServer.context.load_cert_chain(sys.argv[2])
        TlsServer(address, Handler).serve_forever()
    Server(address, Handler).serve_forever()
