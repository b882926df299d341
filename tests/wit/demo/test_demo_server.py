"""The server of the demonstration web: right bytes, misbehaviour as declared, counts, and its end."""

import contextlib
import hashlib
import http.client
import os
import signal
import socket
import subprocess
import sys
import textwrap
import time
from urllib.parse import urljoin, urlsplit

import pytest

from wit import demo
from wit.demo import tables
from wit.demo.pages import page_html, pages


@pytest.fixture(scope="module")
def web():
    with demo.serve() as web:
        yield web


@pytest.fixture(scope="module")
def resources():
    return {row["url"]: row for row in tables.load("resources").to_pylist()}


class Client:
    """Asks the server as a browser with the build's resolver would, over connections kept alive."""

    def __init__(self, web):
        self.addresses = {host: (address, port) for host, address, port in web.endpoints}
        self.connections = {}

    def get(self, url, **headers):
        parts = urlsplit(url)
        target = parts.path + (f"?{parts.query}" if parts.query else "")
        connection = self.connections.get(parts.netloc)
        if connection is None:
            connection = self.connections[parts.netloc] = http.client.HTTPConnection(
                *self.addresses[parts.netloc], timeout=10
            )
        connection.request("GET", target, headers={"Host": parts.netloc, **headers})
        response = connection.getresponse()
        return response, response.read()


@pytest.fixture
def client(web):
    client = Client(web)
    yield client
    for connection in client.connections.values():
        connection.close()


def of_kind(resources, kind):
    return next(row for row in resources.values() if row["kind"] == kind)


def test_every_host_has_a_loopback_endpoint_of_its_own(web):
    assert len({host for host, _, _ in web.endpoints}) == len(web.endpoints) >= 4
    assert all(address.startswith("127.") for _, address, _ in web.endpoints)
    assert len({(address, port) for _, address, port in web.endpoints}) == len(web.endpoints)
    assert "nowhere.example" not in {host for host, _, _ in web.endpoints}


def test_pictures_are_served_byte_for_byte(client, resources):
    data = dict(zip(*(tables.load("pictures")[name].to_pylist() for name in ("picture", "data")), strict=True))
    served = [row for row in resources.values() if row["kind"] == "picture"]
    for row in served[:: len(served) // 400]:
        response, body = client.get(row["url"])
        assert response.status == 200 and body == data[row["picture"]]
        assert int(response.headers["Content-Length"]) == len(body)
        assert response.headers["ETag"] == f'"{hashlib.sha256(body).hexdigest()[:16]}"'


def test_pages_are_served(client):
    for page_url in list(pages())[::200]:
        response, body = client.get(page_url)
        assert response.status == 200 and body.decode() == page_html(page_url)


def test_a_picture_that_the_client_has_is_not_sent_again(client, resources):
    url = of_kind(resources, "picture")["url"]
    etag = client.get(url)[0].headers["ETag"]
    response, body = client.get(url, **{"If-None-Match": etag})
    assert (response.status, body) == (304, b"")


def test_busy_urls_ask_to_come_back_and_then_answer(client, resources):
    url = of_kind(resources, "busy")["url"]
    first, _ = client.get(url)
    second, body = client.get(url)
    assert (first.status, first.headers["Retry-After"]) == (429, "1")
    assert second.status == 200 and len(body) > 100


def test_every_url_of_the_truth_table_answers_as_its_fate_asks(client, resources):
    """Redirects lead where they should, statuses are what they should be; hosts that nobody serves are left out."""
    statuses = {"http_not_found": 404, "http_gone": 410, "http_forbidden": 403, "http_client_error": 400}
    quick = {"picture", "body", "redirect"}
    for row in demo.truth().to_pylist():
        resource = resources.get(row["url"])
        if (
            resource is None
            or resource["kind"] not in quick
            or (row["fates"] == ["kept"] and resource["kind"] == "picture")
        ):
            continue
        status, _ = follow(client, resources, row["url"])
        if "kept" in row["fates"]:
            assert status == 200, row
        if row["fates"][0] in statuses:
            assert status == statuses[row["fates"][0]], row
        if row["fates"] == ["too_many_redirects"]:
            assert status is None, row


def follow(client, resources, url, limit=5):
    """(final status, final URL), or (None, url) where the redirects do not end or leave the web."""
    for _ in range(limit + 1):
        if url not in resources:
            return None, url
        response, _ = client.get(url)
        if "Location" not in response.headers:
            return response.status, url
        url = urljoin(url, response.headers["Location"])
    return None, url


def test_cut_files_have_the_right_length_and_short_ones_end_early(client, resources):
    response, body = client.get(of_kind(resources, "cut")["url"])
    assert int(response.headers["Content-Length"]) == len(body)
    with pytest.raises(http.client.IncompleteRead):
        client.get(of_kind(resources, "short")["url"])


@pytest.mark.parametrize("kind, least, most", [("drip", 1, 60), ("endless", 30_000_000, None)])
def test_some_bodies_do_not_end(web, resources, kind, least, most):
    parts = urlsplit(of_kind(resources, kind)["url"])
    address = next(end[1:] for end in web.endpoints if end[0] == parts.netloc)
    with socket.create_connection(address, timeout=10) as stream:
        stream.sendall(f"GET {parts.path} HTTP/1.1\r\nHost: {parts.netloc}\r\n\r\n".encode())
        received, end = 0, time.monotonic() + 1.5
        while time.monotonic() < end and received < 40_000_000:
            received += len(stream.recv(1 << 20))
    assert received > least and (most is None or received < most + 500)


def test_robots_close_one_folder(client, resources):
    text = client.get("http://shop.example/robots.txt")[1].decode()
    assert "Disallow: /private/" in text
    assert client.get("http://news.example/robots.txt")[0].status == 404


def test_requests_are_counted_by_url(web, client):
    url = "http://museum.example/logo.png"
    before = web.requests().get(url, 0)
    client.get(url)
    client.get(url)
    assert web.requests()[url] == before + 2


def test_the_server_ends_with_the_block():
    with demo.serve() as web:
        assert web.process.poll() is None
        address = web.endpoints[0][1:]
    assert web.process.poll() is not None
    with pytest.raises(OSError):
        socket.create_connection(address, timeout=1)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="kills a process group leader as POSIX does")
def test_the_server_ends_when_its_parent_is_killed_even_if_a_fork_of_it_lives_on():
    code = """
        import os, time
        from wit import demo
        with demo.serve() as web:
            sleeper = os.fork()  # holds the other end of the server's standard input
            if sleeper == 0:
                time.sleep(60)
                os._exit(0)
            print(web.process.pid, sleeper, flush=True)
            time.sleep(60)
    """
    parent = subprocess.Popen([sys.executable, "-c", textwrap.dedent(code)], stdout=subprocess.PIPE, text=True)
    assert parent.stdout
    server, sleeper = (int(word) for word in parent.stdout.readline().split())
    parent.kill()
    parent.wait()
    parent.stdout.close()
    end = time.monotonic() + 10
    while alive(server) and time.monotonic() < end:
        time.sleep(0.1)
    with contextlib.suppress(ProcessLookupError):
        os.kill(sleeper, signal.SIGKILL)
    assert not alive(server)


def alive(pid):
    """Whether the process runs; one that ended and was not waited for does not."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8") as stat:
            return stat.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        pass
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return not os.path.isdir("/proc/self")
