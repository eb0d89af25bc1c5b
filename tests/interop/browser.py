"""A browser that loads a page of 200 objects again and again, over TLS and HTTP/2, while takeovers happen. No object may fail.

Chromium itself gives up (ERR_FAILED, and nothing sent) what it has put down for a connection, but not begun yet, when the GOAWAY of that connection
comes, whoever sends it. Such an object is asked for once more; and that it was never sent is proved: the proxy has answered every request that it got.
"""

import http.server
import json
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from run import Proxy, cluster, eventually, free_port, manager

OBJECTS = 200
TAKEOVERS = 5
FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking --disable-component-update "
    "--disable-sync --disable-dev-shm-usage --disable-extensions --ignore-certificate-errors"
).split()

# Each round is a page of its own. What earlier ones saw is kept beside it; what this one saw is told with the next.
PAGE = """<!doctype html><title>objects</title><body><script>
const kept = JSON.parse(sessionStorage.getItem("kept") || '{"rounds": 0, "loaded": 0, "again": [], "failed": [], "protocols": []}');
const note = name => { if (!kept.protocols.includes(name)) kept.protocols.push(name); };
note(performance.getEntriesByType("navigation")[0].nextHopProtocol);
performance.setResourceTimingBufferSize(1000);
let left = OBJECTS;
async function over() {
  kept.loaded++;
  if (--left > 0) return;
  kept.rounds++;
  for (const entry of performance.getEntriesByType("resource")) note(entry.nextHopProtocol);
  sessionStorage.setItem("kept", JSON.stringify(kept));
  const go = await fetch("/report", {method: "POST", body: JSON.stringify(kept)}).then(answer => answer.text());
  if (go === "on") location.href = "/page?" + kept.rounds;
}
function image(place) {
  return new Promise((resolve, reject) => {
    const image = new Image();
    image.onload = resolve;
    image.onerror = () => reject(place);
    image.src = place;
  });
}
// With something to send, and a length that is looked at.
async function data(place, sent) {
  const answer = await fetch(place, sent ? {method: "POST", body: sent} : {});
  if (!answer.ok || (await answer.arrayBuffer()).byteLength === 0) throw place + " " + answer.status;
}
for (let number = 0; number < OBJECTS; number++) {
  const place = "/object/" + number + "?" + kept.rounds;
  const ask = () => number % 2 ? image(place) : data(place, number % 4 ? "" : "x".repeat(number * 50));
  ask().catch(error => { kept.again.push(place + " " + error); return ask(); }).then(over, error => kept.failed.push(place + " " + error) && over());
}
</script>""".replace("OBJECTS", str(OBJECTS))
IMAGE = b'<svg xmlns="http://www.w3.org/2000/svg" width="1" height="1"/>'


class Report:
    """What the browser has told last, and whether it shall go on."""

    def __init__(self):
        self.seen = []
        self.rounds, self.loaded, self.again, self.failed, self.protocols, self.on = 0, 0, [], [], [], True

    def take(self, text):
        for name, value in json.loads(text).items():
            setattr(self, name, value)
        return b"on" if self.on else b"enough"


def page_server(report):
    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self):
            sent = self.body()
            if self.path.startswith("/page"):
                kind, body = "text/html", PAGE.encode()
            elif self.path.startswith("/report"):
                kind, body = "text/plain", report.take(sent)
            elif self.path.startswith("/object/"):
                report.seen.append(self.path)
                kind, body = "image/svg+xml", IMAGE + b" " * (int(self.path.split("/")[2].split("?")[0]) * 40)
            else:
                kind, body = "text/plain", b""
            self.send_response(200)
            for name, value in (("content-type", kind), ("content-length", len(body)), ("cache-control", "no-store")):
                self.send_header(name, str(value))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST = answer

        def body(self):
            if self.headers.get("transfer-encoding") != "chunked":
                return self.rfile.read(int(self.headers.get("content-length", 0)))
            pieces = b""
            while length := int(self.rfile.readline(), 16):
                pieces += self.rfile.read(length)
                self.rfile.readline()
            self.rfile.readline()
            return pieces

        def log_message(self, *_):
            pass

    class Server(http.server.ThreadingHTTPServer):
        daemon_threads = True
        # A page's objects are asked for at once.
        request_queue_size = 2 * OBJECTS

    server = Server(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


class Front(Proxy):
    """The supervised proxy with TLS and HTTP/2 in front."""

    def __init__(self, binaries, folder, host):
        self.binaries, self.run_dir, self.folder = Path(binaries), folder / "run", folder
        self.page, self.admin = free_port(), free_port()
        secure = f"""
      transport_socket:
        name: envoy.transport_sockets.tls
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext
          common_tls_context:
            alpn_protocols: [h2, http/1.1]
            tls_certificates:
            - {{ certificate_chain: {{ filename: {folder}/cert.pem }}, private_key: {{ filename: {folder}/key.pem }} }}
"""
        config = folder / "config.yaml"
        config.write_text(
            f"admin: {{ address: {{ socket_address: {{ address: 127.0.0.1, port_value: {self.admin} }} }} }}\n"
            "static_resources:\n  listeners:" + manager("page", self.page, "page") + secure.lstrip("\n") + "  clusters:" + cluster("page", host)
        )
        self.start(config, [self.page])


def certificate(folder):
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
        + ["-addext", "subjectAltName=DNS:localhost", "-keyout", folder / "key.pem", "-out", folder / "cert.pem"],
        check=True,
        capture_output=True,
    )


def check(proxy, report, folder, browser):
    command = [browser, *FLAGS, f"--user-data-dir={folder}/profile", "--remote-debugging-port=0", f"https://localhost:{proxy.page}/page"]
    with open(folder / "browser", "wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        for _ in range(TAKEOVERS):
            before = report.rounds
            eventually("the browser goes on", lambda: report.rounds >= before + 2 or report.failed)
            proxy.reload()
        before = report.rounds
        eventually("the browser goes on", lambda: report.rounds >= before + 2 or report.failed)
        report.on = False
        assert not report.failed, report.failed
        assert report.loaded == report.rounds * OBJECTS
        # What was given up has none.
        assert set(report.protocols) - {""} == {"h2"}, report.protocols
        connections = proxy.stat("http.page.downstream_cx_http2_total")
        assert connections > TAKEOVERS, f"{connections} connections"
        total, answered = (proxy.stat(f"http.page.downstream_rq_{what}") for what in ("total", "2xx"))
        assert total == answered, f"{total} requests, {answered} answered; asked for again: {report.again}"
        # What was asked for again had never come before: no answer was lost on its way back either.
        assert len(report.seen) == len(set(report.seen)) == report.loaded, f"{len(report.seen)} asked for, {len(set(report.seen))} objects"
        for what in ("rx_reset", "tx_reset"):
            assert proxy.stat(f"http.page.downstream_rq_{what}") == 0, what
        print(f"  {report.rounds} pages, {report.loaded} objects, {connections} connections, {TAKEOVERS} takeovers; {total} requests, all answered")
        print(f"  {len(report.again)} objects that the browser had given up before it sent anything were asked for again")
    except BaseException:
        sys.stderr.write((folder / "browser").read_text(errors="replace")[-2000:])
        raise
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()


def main():
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if not browser or not shutil.which("openssl"):
        print("skipped: a browser over takeovers (chromium or openssl is not installed)")
        return
    with tempfile.TemporaryDirectory(prefix="heirloom-browser-", ignore_cleanup_errors=True) as name:
        folder, report = Path(name), Report()
        certificate(folder)
        server = page_server(report)
        proxy = Front(sys.argv[1], folder, server.server_port)
        begun = time.monotonic()
        try:
            check(proxy, report, folder, browser)
            print(f"ok: a browser over {TAKEOVERS} takeovers ({time.monotonic() - begun:.1f} s)")
        except BaseException:
            proxy.log.flush()
            sys.stderr.write((folder / "log").read_text()[-4000:])
            raise
        finally:
            proxy.stop()
            server.shutdown()


if __name__ == "__main__":
    main()
