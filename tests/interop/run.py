"""Real clients and servers through the supervised proxy, with takeovers under way. Exit status 0 when all that could run went well."""

import asyncio
import base64
import json
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from concurrent import futures
from pathlib import Path

import grpc
import websockets

PATIENCE = 20.0


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def eventually(what, condition):
    end = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > end:
            raise AssertionError(f"never came true: {what}")
        time.sleep(0.02)


def listens(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def http_filter(name, package, message, settings=""):
    return f"""
          - name: {name}
            typed_config:
              "@type": type.googleapis.com/envoy.extensions.filters.http.{package}.v3.{message}
              {settings}"""


# Calls are counted one by one; what browsers send becomes a call.
GRPC_FILTERS = http_filter("web", "grpc_web", "GrpcWeb") + http_filter(
    "stats",
    "grpc_stats",
    "FilterConfig",
    "individual_method_stats_allowlist: { services: [{ name: test.Kinds, method_names: [Unary, Missing, Count, Sum, Echo] }] }",
)


def manager(prefix, port, cluster, extra="", filters=""):
    return f"""
  - name: {prefix}
    address: {{ socket_address: {{ address: 127.0.0.1, port_value: {port} }} }}
    filter_chains:
    - filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: {prefix}
          {extra}
          route_config:
            virtual_hosts:
            - name: all
              domains: ["*"]
              routes:
              - match: {{ prefix: "/" }}
                route: {{ cluster: {cluster}, timeout: 0s }}
          http_filters:{filters}
          - name: envoy.filters.http.router
            typed_config:
              "@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router
"""


def cluster(name, port, http2=False):
    protocol = """
    typed_extension_protocol_options:
      envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
        "@type": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions
        explicit_http_config: { http2_protocol_options: {} }""" if http2 else ""
    return f"""
  - name: {name}{protocol}
    load_assignment:
      cluster_name: {name}
      endpoints:
      - lb_endpoints:
        - endpoint: {{ address: {{ socket_address: {{ address: 127.0.0.1, port_value: {port} }} }} }}
"""


class Proxy:
    """The supervised proxy before a gRPC server, an echo of WebSockets and a file server."""

    def __init__(self, binaries, folder, hosts):
        self.binaries, self.run_dir = Path(binaries), folder / "run"
        self.grpc, self.ws, self.files, self.admin, self.bridged, self.bridge = (free_port() for _ in range(6))
        config = folder / "config.yaml"
        config.write_text(
            f"admin: {{ address: {{ socket_address: {{ address: 127.0.0.1, port_value: {self.admin} }} }} }}\n"
            "static_resources:\n  listeners:"
            + manager("grpc", self.grpc, "grpc", filters=GRPC_FILTERS)
            + manager("ws", self.ws, "ws", "upgrade_configs: [{ upgrade_type: websocket }]")
            + manager("files", self.files, "files")
            # WebSockets that take a way over HTTP/2 in between: out of here as extended CONNECTs, and in again.
            + manager("bridged", self.bridged, "bridge", "upgrade_configs: [{ upgrade_type: websocket }]")
            + manager("bridge", self.bridge, "ws", "upgrade_configs: [{ upgrade_type: websocket }]\n          http2_protocol_options: { allow_connect: true }")
            + "  clusters:"
            + cluster("grpc", hosts["grpc"], http2=True)
            + cluster("ws", hosts["ws"])
            + cluster("files", hosts["files"])
            + cluster("bridge", self.bridge, http2=True)
        )
        self.start(config, [self.grpc, self.ws, self.files])

    def start(self, config, ports):
        self.log = open(config.parent / "log", "wb")
        command = [self.binaries / "heirloom-supervisor", "--run-dir", self.run_dir, "--", self.binaries / "heirloom", "-c", config]
        self.process = subprocess.Popen(command, stdout=self.log, stderr=self.log)
        eventually("the proxy serves", lambda: all(listens(port) for port in ports) and self.ready())

    def ready(self):
        try:
            return urllib.request.urlopen(f"http://127.0.0.1:{self.admin}/ready", timeout=2).status == 200
        except OSError:
            return False

    def reload(self):
        subprocess.run([self.binaries / "heirloom-supervisor", "reload", "--run-dir", self.run_dir], check=True, stdout=subprocess.DEVNULL)

    def stat(self, name):
        text = urllib.request.urlopen(f"http://127.0.0.1:{self.admin}/stats?filter=^{name}$&format=json", timeout=5).read()
        return json.loads(text)["stats"][0]["value"]

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()


def same(message):
    return message


class Kinds(grpc.GenericRpcHandler):
    """A service with one method for each kind of call."""

    def service(self, details):
        method = details.method.rsplit("/", 1)[1]
        if method == "Unary":
            return grpc.unary_unary_rpc_method_handler(lambda request, _: request, same, same)
        if method == "Missing":
            return grpc.unary_unary_rpc_method_handler(lambda _, context: context.abort(grpc.StatusCode.NOT_FOUND, "no such thing"), same, same)
        if method == "Slow":
            return grpc.unary_unary_rpc_method_handler(lambda request, _: (time.sleep(2), request)[1], same, same)
        if method == "Count":
            return grpc.unary_stream_rpc_method_handler(lambda request, _: (b"%d" % number for number in range(int(request))), same, same)
        if method == "Sum":
            return grpc.stream_unary_rpc_method_handler(lambda requests, _: b"%d" % sum(1 for _ in requests), same, same)
        if method == "Echo":
            return grpc.stream_stream_rpc_method_handler(lambda requests, _: (request for request in requests), same, same)
        return None


def grpc_server():
    server = grpc.server(futures.ThreadPoolExecutor(32))
    server.add_generic_rpc_handlers((Kinds(),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    return server, port


def check_grpc(proxy):
    with grpc.insecure_channel(f"127.0.0.1:{proxy.grpc}") as channel:
        unary = channel.unary_unary("/test.Kinds/Unary", same, same)
        assert unary(b"hello") == b"hello"
        assert len(unary(b"x" * 2_000_000)) == 2_000_000
        try:
            channel.unary_unary("/test.Kinds/Missing", same, same)(b"")
            raise AssertionError("an error is no answer")
        except grpc.RpcError as error:
            assert (error.code(), error.details()) == (grpc.StatusCode.NOT_FOUND, "no such thing"), error
        try:
            channel.unary_unary("/test.Kinds/Slow", same, same)(b"", timeout=0.3)
            raise AssertionError("a deadline is kept")
        except grpc.RpcError as error:
            assert error.code() == grpc.StatusCode.DEADLINE_EXCEEDED, error
        assert sum(1 for _ in channel.unary_stream("/test.Kinds/Count", same, same)(b"10000")) == 10_000
        assert channel.stream_unary("/test.Kinds/Sum", same, same)(iter([b"x"] * 10_000)) == b"10000"
        echoed = list(channel.stream_stream("/test.Kinds/Echo", same, same)(b"%d" % number for number in range(10_000)))
        assert echoed == [b"%d" % number for number in range(10_000)]
        endless = channel.stream_stream("/test.Kinds/Echo", same, same)(iter(lambda: (time.sleep(0.05), b"z")[1], None))
        assert next(endless) == b"z"
        endless.cancel()
        eventually("a cancelled call is over everywhere", lambda: proxy.stat("cluster.grpc.upstream_rq_active") == 0)


def check_grpc_stats(proxy):
    """What [`check_grpc`] and the web's calls have done, as the filter counts it."""

    def count(name):
        return proxy.stat(f"cluster.grpc.grpc.test.Kinds.{name}")

    before = {name: count(name) for name in ("Unary.success", "Unary.request_message_count", "Missing.5", "Count.response_message_count", "Sum.request_message_count")}
    with grpc.insecure_channel(f"127.0.0.1:{proxy.grpc}") as channel:
        assert channel.unary_unary("/test.Kinds/Unary")(b"x") == b"x"
        try:
            channel.unary_unary("/test.Kinds/Missing")(b"x")
            raise AssertionError("an error was expected")
        except grpc.RpcError as error:
            assert error.code() == grpc.StatusCode.NOT_FOUND, error
        assert len(list(channel.unary_stream("/test.Kinds/Count")(b"1000"))) == 1000
        assert channel.stream_unary("/test.Kinds/Sum")(b"x" * 10_000 for _ in range(100)) == b"100"
    grown = {name: count(name) - value for name, value in before.items()}
    assert grown == {"Unary.success": 1, "Unary.request_message_count": 1, "Missing.5": 1, "Count.response_message_count": 1000, "Sum.request_message_count": 100}, grown


def web_call(proxy, method, content, text):
    """A gRPC-Web call over HTTP/1: what came as messages, and as trailers."""
    message = struct.pack(">BI", 0, len(content)) + content
    kind = "application/grpc-web-text" if text else "application/grpc-web+proto"
    body = base64.b64encode(message) if text else message
    request = urllib.request.Request(f"http://127.0.0.1:{proxy.grpc}/test.Kinds/{method}", body, {"content-type": kind, "accept": kind, "x-grpc-web": "1"})
    with urllib.request.urlopen(request, timeout=PATIENCE) as response:
        got, head = response.read(), response.headers
    if text:
        # Each message is encoded for itself: its padding ends it.
        got = b"".join(base64.b64decode(part + b"=" * (-len(part) % 4)) for part in re.split(b"=+", got) if part)
    messages, trailers = [], dict(head)
    while got:
        flags, length = struct.unpack(">BI", got[:5])
        part, got = got[5 : 5 + length], got[5 + length :]
        if flags & 0x80:
            trailers.update(line.split(":", 1) for line in part.decode().split("\r\n") if line)
        else:
            messages.append(part)
    return messages, trailers


def check_grpc_web(proxy):
    for text in (False, True):
        messages, trailers = web_call(proxy, "Unary", b"hello" * 1000, text)
        assert (messages, trailers.get("grpc-status")) == ([b"hello" * 1000], "0"), (messages, trailers)
        messages, trailers = web_call(proxy, "Count", b"7", text)
        assert (messages, trailers.get("grpc-status")) == ([b"%d" % number for number in range(7)], "0"), (messages, trailers)
        messages, trailers = web_call(proxy, "Missing", b"", text)
        assert (messages, trailers.get("grpc-status"), trailers.get("grpc-message")) == ([], "5", "no such thing"), (messages, trailers)
    assert proxy.stat("cluster.grpc.grpc-web.test.Kinds.Unary.success") == 2


def check_grpc_over_takeovers(proxy):
    """Calls all the while, and a stream that begins before the first takeover and ends after the last."""
    done, calls = threading.Event(), []

    def caller():
        with grpc.insecure_channel(f"127.0.0.1:{proxy.grpc}") as channel:
            unary = channel.unary_unary("/test.Kinds/Unary", same, same)
            while not done.is_set():
                calls.append(unary(b"again", timeout=PATIENCE))

    def long_stream():
        with grpc.insecure_channel(f"127.0.0.1:{proxy.grpc}") as channel:
            messages = (time.sleep(0.01) or b"%d" % number for number in range(300))
            return list(channel.stream_stream("/test.Kinds/Echo", same, same)(messages))

    with futures.ThreadPoolExecutor(5) as pool:
        stream = pool.submit(long_stream)
        callers = [pool.submit(caller) for _ in range(4)]
        try:
            for _ in range(3):
                before = len(calls)
                eventually("calls are answered", lambda: len(calls) > before + 50 or any(one.done() for one in callers))
                proxy.reload()
        finally:
            done.set()
        for one in callers:
            one.result()
        assert len(stream.result()) == 300


async def echo_words(connection):
    async for word in connection:
        await connection.send(word)


def ws_server():
    port, ready, ended = free_port(), threading.Event(), None

    def run():
        async def serve():
            async with websockets.serve(echo_words, "127.0.0.1", port, max_size=None):
                ready.set()
                await asyncio.Future()

        asyncio.run(serve())

    threading.Thread(target=run, daemon=True).start()
    ready.wait(PATIENCE)
    return ended, port


def check_websockets(proxy):
    """Sockets that talk over takeovers and never notice."""

    async def talk():
        sockets = [await websockets.connect(f"ws://127.0.0.1:{proxy.ws}/chat", max_size=None) for _ in range(10)]
        for takeover in range(3):
            for number, one in enumerate(sockets):
                await one.send(f"{takeover} {number}")
                assert await one.recv() == f"{takeover} {number}"
            big = bytes(range(256)) * 4096
            await sockets[0].send(big)
            assert await sockets[0].recv() == big
            await asyncio.get_running_loop().run_in_executor(None, proxy.reload)
        for number, one in enumerate(sockets):
            await one.send(f"last {number}")
            assert await one.recv() == f"last {number}"
            await one.ping()
            await one.close()

    asyncio.run(talk())
    moved = proxy.stat("server.connections_moved.upgrade")
    assert moved >= 20, f"{moved} moved"


def check_websockets_over_http2(proxy):
    """Sockets with HTTP/2 in their middle: compressed, pinged and closed as ever, and alive where they began after a takeover."""

    async def talk():
        sockets = [await websockets.connect(f"ws://127.0.0.1:{proxy.bridged}/chat", max_size=None) for _ in range(10)]
        big = bytes(range(256)) * 4096
        for turn in range(2):
            for number, one in enumerate(sockets):
                await one.send(f"{turn} {number}")
                assert await one.recv() == f"{turn} {number}"
            await sockets[0].send(big)
            assert await sockets[0].recv() == big
            if turn == 0:
                await asyncio.get_running_loop().run_in_executor(None, proxy.reload)
        for one in sockets:
            await (await one.ping())
            await one.close()
        async with websockets.connect(f"ws://127.0.0.1:{proxy.bridged}/chat") as one:
            await one.send("in the next epoch")
            assert await one.recv() == "in the next epoch"

    asyncio.run(talk())
    assert proxy.stat("cluster.bridge.upstream_rq_101") == 11
    eventually("all of them are over", lambda: proxy.stat("http.bridge.downstream_cx_upgrades_active") == 0)


def file_server(folder):
    """nginx where there is one, else Python's own."""
    page = folder / "www"
    page.mkdir()
    (page / "index.html").write_text("hello\n")
    (page / "large").write_bytes(bytes(range(251)) * 40_000)
    port = free_port()
    nginx = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    if nginx:
        config = folder / "nginx.conf"
        config.write_text(
            f"daemon off; pid {folder}/nginx.pid; error_log {folder}/nginx.log; events {{}}\n"
            f"http {{ access_log off; client_body_temp_path {folder}/b; proxy_temp_path {folder}/p; fastcgi_temp_path {folder}/f;"
            f" uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s; server {{ listen 127.0.0.1:{port}; root {page}; }} }}\n"
        )
        # Its worker may be another user, who has to get in.
        for path in (folder, page):
            path.chmod(0o755)
        process = subprocess.Popen([nginx, "-c", config, "-p", folder], stderr=subprocess.DEVNULL)
    else:
        print("  nginx is not installed: Python's file server instead")
        command = [sys.executable, "-m", "http.server", "--bind", "127.0.0.1", "--directory", str(page), str(port)]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    eventually("the file server listens", lambda: listens(port))
    return process, port


def check_files(proxy, folder):
    url = f"http://127.0.0.1:{proxy.files}"
    expected = (folder / "www" / "large").read_bytes()
    if shutil.which("curl"):
        for version in ("--http1.1", "--http2-prior-knowledge", "--http1.0"):
            if version == "--http1.0":
                status = subprocess.run(["curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", version, url + "/"], capture_output=True, check=True)
                assert status.stdout == b"426", status
                continue
            answer = subprocess.run(["curl", "-s", "--fail", version, url + "/large"], capture_output=True, check=True)
            assert answer.stdout == expected, version
    else:
        print("  curl is not installed: skipped")
    if shutil.which("h2load"):
        load = subprocess.run(["h2load", "-n", "2000", "-c", "8", "-m", "8", url + "/"], capture_output=True, text=True, check=True)
        assert "2000 succeeded, 0 failed" in load.stdout, load.stdout
    else:
        print("  h2load is not installed: skipped")


def main():
    with tempfile.TemporaryDirectory(prefix="heirloom-interop-") as name:
        folder = Path(name)
        server, grpc_port = grpc_server()
        _, ws_port = ws_server()
        files, files_port = file_server(folder)
        proxy = Proxy(sys.argv[1], folder, {"grpc": grpc_port, "ws": ws_port, "files": files_port})
        try:
            for what, check in (
                ("gRPC: every kind of call", lambda: check_grpc(proxy)),
                ("gRPC counted call by call", lambda: check_grpc_stats(proxy)),
                ("gRPC-Web by hand", lambda: check_grpc_web(proxy)),
                ("gRPC over three takeovers", lambda: check_grpc_over_takeovers(proxy)),
                ("WebSockets over three takeovers", lambda: check_websockets(proxy)),
                ("WebSockets with HTTP/2 in their middle", lambda: check_websockets_over_http2(proxy)),
                ("files by curl and h2load", lambda: check_files(proxy, folder)),
            ):
                begun = time.monotonic()
                check()
                print(f"ok: {what} ({time.monotonic() - begun:.1f} s)")
        except BaseException:
            proxy.log.flush()
            sys.stderr.write((folder / "log").read_text()[-4000:])
            raise
        finally:
            proxy.stop()
            files.terminate()
            files.wait(PATIENCE)
            server.stop(None)


if __name__ == "__main__":
    main()
