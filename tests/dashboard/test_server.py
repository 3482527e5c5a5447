"""The server: this machine only, the page's own files only, and a version that follows the records."""

import http.client
import os
import signal
import socket
import subprocess
import sys
from urllib.parse import urlsplit

import pytest
from dashboard_made import decoded, served

from normtables.__main__ import dispatch
from normtables.errors import UserError
from normtables.places import EXPERIMENTS
from normtables.report.site import page, serve, server


@pytest.fixture
def ask(fresh):
    """Asks the server for a path; status, headers and content."""
    with served(fresh) as url:
        port = urlsplit(url).port

        def get(path, method="GET", host=f"127.0.0.1:{port}"):
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
            connection.putrequest(method, path, skip_host=True)
            if host is not None:
                connection.putheader("Host", host)
            connection.endheaders()
            answer = connection.getresponse()
            content = answer.read().decode()
            connection.close()
            return answer.status, dict(answer.getheaders()), content

        yield get


def test_the_pages_files_are_served(ask, fresh, add):
    add(0xABC, rows=[{"step": 1, "train/loss": 0.5}])
    assert ask("/")[2] == ask("/index.html")[2] == page.index_html()
    assert ask("/data.js")[2] == fresh.data_js()
    assert ask("/histories/00.js")[2] == fresh.histories_js("00")
    assert ask("/histories/ff.js")[2] == 'normtables.histories("ff", "{}");\n'
    assert ask("/plotly.min.js?v=1")[2].encode() == page.plotly_js()


def test_the_version_follows_the_records(ask, fresh, add):
    add(1)
    first = ask("/version.js")[2]
    assert ask("/version.js")[2] == first == f'normtables.version("{decoded(fresh).version}");\n'
    add(2)
    assert ask("/version.js")[2] != first


def test_looks_at_the_files_are_apart(fresh, add, monkeypatch):
    """A page that asks ten times a second costs no more than one."""
    monkeypatch.setattr("normtables.report.site.gather.PAUSE", 3600.0)
    first = fresh.version_js()
    add(1)
    assert fresh.version_js() == first


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8750", "127.0.0.1.evil.example", "", None, "["])
def test_another_host_is_refused(ask, host):
    """A page of the web may point its own name at 127.0.0.1, but sends that name."""
    status, _, content = ask("/data.js", host=host)
    assert (status, "normtables.data" in content) == (403, False)


@pytest.mark.parametrize("host", ["localhost", "localhost:1234", "127.0.0.1"])
def test_this_machine_is_answered_through_a_tunnel_too(ask, host):
    assert ask("/version.js", host=host)[0] == 200


@pytest.mark.parametrize(
    "path",
    [
        "/../../etc/passwd",
        "/histories/../../../etc/passwd",
        "/histories/%2e%2e/data.js",
        "/histories/abc.js",
        "/runs/000000000001/record.json",
        "//etc/passwd",
        "/style.css",
        "/data.js/",
    ],
)
def test_nothing_else_is_served(ask, path):
    assert ask(path)[0] == 404


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS"])
def test_other_methods_are_refused(ask, method):
    assert ask("/data.js", method=method)[0] in (405, 501)


def test_head_has_the_length_and_no_content(ask):
    status, headers, content = ask("/data.js", method="HEAD")
    assert (status, content, headers["Content-Length"]) == (200, "", str(len(ask("/data.js")[2])))


def test_no_other_page_may_load_the_data(ask):
    """data.js is a script: without this header a page of the web could include it and see every result."""
    headers = ask("/data.js")[1]
    assert headers["Cross-Origin-Resource-Policy"] == "same-origin"
    assert (headers["X-Content-Type-Options"], headers["Cache-Control"]) == ("nosniff", "no-store")
    assert headers["Content-Security-Policy"] == "frame-ancestors 'none'"


def test_a_table_file_with_a_mistake_is_told_and_the_server_goes_on(ask, fresh, tmp_path):
    path = tmp_path / "mine.yaml"
    fresh.tables.paths = [path]
    path.write_text("table: mine\n")
    status, _, content = ask("/data.js")
    assert (status, "mine.yaml" in content) == (500, True)
    path.write_text((EXPERIMENTS / "table_03.yaml").read_text())
    assert ask("/data.js")[0] == 200


def test_it_listens_on_loopback_alone(fresh):
    with serve(fresh, 0) as listening:
        assert listening.server_address[0] == "127.0.0.1"


def test_a_port_that_is_taken_is_told_or_passed_over(fresh, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(UserError, match=f"cannot serve at port {port}: Address already in use"):
            serve(fresh, port)
        monkeypatch.setattr(server, "PORT", port)
        with serve(fresh, None) as other:
            assert other.server_port != port


def test_a_port_that_is_none(fresh):
    with pytest.raises(UserError, match="up to 65535"):
        serve(fresh, 70000)


def test_without_plotly_the_command_says_how_to_get_it(fresh, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match="pip install"):
        serve(fresh, None)


def test_export_writes_the_page(results, tmp_path, capsys):
    assert dispatch(["dashboard", "--export", str(tmp_path / "site"), "--results", str(results)]) == 0
    assert capsys.readouterr().out == f"written: {tmp_path / 'site' / 'index.html'}\n"
    assert (tmp_path / "site" / "index.html").read_text() == page.index_html()


def test_ctrl_c_ends_it_with_a_line(results):
    words = [sys.executable, "-m", "normtables", "dashboard", "--port", "0", "--results", str(results)]
    process = subprocess.Popen(
        words,
        env=os.environ | {"PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a shell's background jobs ignore it
    )
    try:
        first = process.stdout.readline()
        url = first.removeprefix("the dashboard is at ").split()[0]
        connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=30)
        connection.request("GET", "/version.js")
        assert connection.getresponse().status == 200
        process.send_signal(signal.SIGINT)
        out, error = process.communicate(timeout=60)
    finally:
        process.kill()
    assert (process.returncode, out, error) == (0, "dashboard stopped\n", "")


def test_it_loads_no_torch(results):
    code = "import sys; from normtables.__main__ import dispatch\n"
    code += f"dispatch(['dashboard', '--export', {str(results / 'site')!r}, '--results', {str(results)!r}])\n"
    code += "assert not {'torch', 'matplotlib'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_the_page_allows_its_own_script_alone():
    """The policy names the script inside the page by its digest: a changed one would not run."""
    text = page.index_html()
    assert "script-src &#39;self&#39; file: &#39;sha256-" in text
    assert "unsafe-eval" not in text
    assert "http:" not in text
    assert "https:" not in text
    assert "innerHTML" not in text
