// What the hosts serve, by node: a server that dies at once on SIGTERM.
const http = require("http");
const { URL } = require("url");

const HOST = process.env.LAB_HOST || "-";
// Made once: whoever makes it for each answer answers nobody else meanwhile, not even a health check.
const PATTERN = Buffer.alloc(3000000, Buffer.from(Array.from({ length: 251 }, (_, n) => n)));
const later = (seconds) => new Promise((done) => setTimeout(done, seconds * 1000));

async function answer(request, response) {
  const url = new URL(request.url, "http://lab");
  const number = (name) => Number(url.searchParams.get(name));
  response.setHeader("X-Host", HOST);
  if (url.pathname === "/slow") {
    await later(number("s"));
    response.end("done\n");
  } else if (url.pathname === "/stream") {
    for (let n = 0; n <= Math.floor(number("s") / number("gap") + 1e-9); n++) {
      if (n) await later(number("gap"));
      response.write(`chunk ${n}\n`);
    }
    response.end();
  } else if (url.pathname === "/download") {
    response.end(PATTERN.subarray(0, number("bytes")));
  } else if (url.pathname === "/upload") {
    let count = 0;
    let sum = 0;
    for await (const piece of request) {
      count += piece.length;
      for (const byte of piece) sum += byte;
    }
    response.end(`${count} bytes, sum ${sum}\n`);
  } else {
    response.end("ok\n");
  }
}

const server = http.createServer((request, response) => answer(request, response).catch(() => response.destroy()));
// Longer than the balancer keeps connections, or its reuse would race with their end.
server.keepAliveTimeout = 600000;
server.listen(Number(process.argv[2]), "0.0.0.0");
