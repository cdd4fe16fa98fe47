"""What the hosts serve, by uvicorn."""

import asyncio
import os
import urllib.parse

HOST = os.environ.get("LAB_HOST", "-").encode()
BLOCK = bytes(i % 251 for i in range(251 * 256))


async def application(scope, receive, send):
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            await send({"type": message["type"] + ".complete"})
            if message["type"] == "lifespan.shutdown":
                return
    asked = {name: float(values[0]) for name, values in urllib.parse.parse_qs(scope["query_string"].decode()).items()}
    path = scope["path"]
    if path == "/upload":
        count = total = 0
        more = True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            count += len(message.get("body", b""))
            total += sum(message.get("body", b""))
            more = message.get("more_body", False)
    await send({"type": "http.response.start", "status": 200, "headers": [(b"x-host", HOST)]})

    async def part(data, more=True):
        await send({"type": "http.response.body", "body": data, "more_body": more})

    if path == "/slow":
        await asyncio.sleep(asked["s"])
        await part(b"done\n")
    elif path == "/stream":
        for number in range(int(asked["s"] / asked["gap"]) + 1):
            if number:
                await asyncio.sleep(asked["gap"])
            await part(b"chunk %d\n" % number)
    elif path == "/download":
        left = int(asked["bytes"])
        while left > 0:
            await part(BLOCK[:left])
            left -= len(BLOCK)
    elif path == "/upload":
        await part(b"%d bytes, sum %d\n" % (count, total))
    else:
        await part(b"ok\n")
    await part(b"", False)
