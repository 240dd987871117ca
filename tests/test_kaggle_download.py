"""The Kaggle download against a server on this machine that speaks the endpoints the kaggle package calls."""

import hashlib
import io
import json
import os
import re
import subprocess
import sys
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
from PIL import Image

from xraygan import disk
from xraygan.data import kaggle_download

TOKEN = "KGAT_secret_0123456789"


def archive_of(names, prefix="Data/"):
    """A zip with a small image for each name, `train/` some folders deep, as on Kaggle."""
    picture = io.BytesIO()
    Image.fromarray(np.arange(400, dtype=np.uint8).reshape(20, 20) % 200).save(picture, "JPEG")
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as opened:
        for name in names:
            opened.writestr(prefix + name, picture.getvalue())
    return buffer.getvalue()


GOOD_NAMES = [
    f"{part}/{name}/{name}({i}).jpg" for part in ("train", "test") for name in ("NORMAL", "COVID19") for i in range(3)
]


class Kaggle(BaseHTTPRequestHandler):
    """The data set's metadata, a redirect to the archive, and the archive with ranges; `server.behaviour` makes it fail."""

    protocol_version = "HTTP/1.1"

    def do_POST(self):
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.calls.append((self.path.rsplit("/", 1)[1], dict(self.headers)))
        if self.server.behaviour == "account needed":
            return self.answer(
                403, json.dumps({"code": 403, "message": "Permission denied"}).encode(), {"Content-Type": "application/json"}
            )
        if self.path.endswith("GetDatasetMetadata"):
            return self.answer(200, b'{"info": {"licenses": [{"name": "CC0-1.0"}]}}', {"Content-Type": "application/json"})
        return self.answer(302, b"", {"Location": "http://localhost/storage/archive.zip"})

    def do_GET(self):
        self.server.calls.append(("archive", dict(self.headers)))
        data = self.server.archive
        common = {"Content-Type": "application/zip", "Accept-Ranges": "bytes", "Last-Modified": "Mon, 01 Jan 2024 00:00:00 GMT"}
        common["ETag"] = '"' + hashlib.md5(data).hexdigest() + '"'
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        if asked and self.server.behaviour == "breaks":
            return self.answer(503, b"", {})
        if asked:
            start = int(asked[1])
            return self.answer(206, data[start:], common | {"Content-Range": f"bytes {start}-{len(data) - 1}/{len(data)}"})
        if self.server.behaviour == "breaks":
            self.server.go_on.set()  # half of it, and then the connection closes
        return self.answer(200, data, common, cut=self.server.behaviour in ("cut off", "breaks"))

    def answer(self, status, body, headers, cut=False):
        self.send_response(status)
        for name, value in (headers | {"Content-Length": str(len(body))}).items():
            self.send_header(name, value)
        self.end_headers()
        if cut:
            self.server.half_sent.set()
            self.wfile.write(body[: len(body) // 2])
            self.wfile.flush()
            self.server.go_on.wait(60)  # and then nothing more: the client is killed meanwhile
            self.close_connection = True
        else:
            self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture
def server():
    served = ThreadingHTTPServer(("127.0.0.1", 0), Kaggle)
    served.calls, served.behaviour, served.archive = [], "", archive_of(GOOD_NAMES)
    served.half_sent, served.go_on = threading.Event(), threading.Event()
    threading.Thread(target=served.serve_forever, daemon=True).start()
    yield served
    served.go_on.set()
    served.shutdown()
    served.server_close()


def start_download(server, tmp_path, token="", store=None):
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith("KAGGLE") and "proxy" not in name.lower()
    }
    # LOCALHOST makes the package call http://localhost/api; the proxy setting sends that to the test's own port.
    environment |= {
        "KAGGLE_API_ENVIRONMENT": "LOCALHOST",
        "http_proxy": f"http://127.0.0.1:{server.server_port}",
        "no_proxy": "",
    }
    environment |= {"XRAYGAN_STORE": str(store or tmp_path), "HOME": str(tmp_path / "home"), "PYTHONPATH": str(disk.ROOT)}
    if token:
        environment["KAGGLE_API_TOKEN"] = token
    return subprocess.Popen(
        [sys.executable, "-m", "xraygan.data.kaggle_download"],
        cwd=disk.ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def download(server, tmp_path, token="", store=None):
    process = start_download(server, tmp_path, token, store)
    output, _ = process.communicate(timeout=120)
    return process.returncode, output


def test_downloads_and_unpacks_without_an_account(server, tmp_path):
    code, output = download(server, tmp_path)
    assert code == 0, output
    found = sorted(path.relative_to(tmp_path / "data" / "chest_xray").as_posix() for path in (tmp_path / "data").rglob("*.jpg"))
    assert found == sorted(GOOD_NAMES)
    assert "train/NORMAL holds 3 images; the study had 1266." in output
    assert {name for name, _ in server.calls} == {"GetDatasetMetadata", "DownloadDataset", "archive"}
    assert not any("Authorization" in headers for _, headers in server.calls)
    calls = len(server.calls)
    assert download(server, tmp_path)[0] == 0
    assert len(server.calls) == calls, "downloaded again although it's there"


def test_goes_on_where_a_killed_download_stopped(server, tmp_path):
    server.behaviour = "cut off"
    server.archive = archive_of([f"train/NORMAL/{i}.jpg" for i in range(9000)] + ["test/NORMAL/0.jpg"])
    process = start_download(server, tmp_path)
    assert server.half_sent.wait(60)
    partial = tmp_path / "data" / "download" / "chest-xray-covid19-pneumonia.zip"
    for _ in range(600):
        if partial.exists() and partial.stat().st_size > 2**20:
            break
        threading.Event().wait(0.1)
    os.killpg(process.pid, 9)
    process.communicate()
    server.behaviour = ""
    server.calls.clear()
    code, output = download(server, tmp_path)
    assert code == 0, output
    ranges = [headers["Range"] for _, headers in server.calls if "Range" in headers]
    assert ranges, "started from the beginning"
    assert int(ranges[0][6:-1]) >= 2**20
    assert len(list((tmp_path / "data" / "chest_xray" / "train" / "NORMAL").iterdir())) == 9000


def test_account_needed_is_one_sentence_and_the_token_stays_secret(server, tmp_path):
    server.behaviour = "account needed"
    code, output = download(server, tmp_path, TOKEN)
    assert code != 0
    assert output.strip().splitlines()[-1].startswith("Kaggle's download of prashant268/chest-xray-covid19-pneumonia failed")
    assert "~/.kaggle/access_token" in output
    assert any(TOKEN in headers.get("Authorization", "") for _, headers in server.calls), "the test's token wasn't used"
    assert TOKEN not in output


@pytest.mark.parametrize(
    ("size", "options", "sentence"),
    [
        ("2m", "", "data/download/chest-xray-covid19-pneumonia.zip can't be written: the disk is full; free some space"),
        ("8m", "", "can't be written: the disk is full; free some space"),  # the archive fits, the images don't
        ("8m", "ro", "data/download can't be written: the folder is read-only"),
    ],
)
def test_what_cannot_be_written_is_one_sentence(server, tmp_path, small_disk, size, options, sentence):
    server.archive = archive_of([f"train/NORMAL/{i}.jpg" for i in range(5000)] + ["test/NORMAL/0.jpg"])
    place = small_disk(size)
    if options:
        subprocess.run(["mount", "-o", f"remount,{options}", str(place)], check=True)
    code, output = download(server, tmp_path, store=place)
    assert code == 1
    assert "Traceback" not in output
    assert sentence in output.strip().splitlines()[-1]


@pytest.mark.slow  # the kaggle package tries again for a minute
def test_a_connection_that_breaks_is_one_sentence_and_goes_on(server, tmp_path):
    server.behaviour = "breaks"
    server.archive = archive_of([f"train/NORMAL/{i}.jpg" for i in range(3000)] + ["test/NORMAL/0.jpg"])
    code, output = download(server, tmp_path)
    assert code == 1
    assert "Traceback" not in output
    assert "If the connection broke, run this again, it goes on where it stopped." in output.strip().splitlines()[-1]


def test_two_downloads_at_once(server, tmp_path):
    with disk.held(tmp_path / "data" / "download"):
        code, output = download(server, tmp_path)
    assert code == 1
    assert output.strip().startswith("another process is at work in data/download: wait for it or stop it")
    assert not server.calls


def test_the_download_ends_with_a_killed_parent(server, tmp_path):
    server.behaviour = "cut off"
    process = start_download(server, tmp_path)
    assert server.half_sent.wait(60)
    process.kill()
    server.go_on.set()
    process.wait()
    for _ in range(100):
        try:
            os.killpg(process.pid, 0)
        except ProcessLookupError:
            return
        threading.Event().wait(0.1)
    pytest.fail("it goes on")


def test_ctrl_c_is_one_sentence(server, tmp_path):
    server.behaviour = "cut off"
    process = start_download(server, tmp_path)
    assert server.half_sent.wait(60)
    os.killpg(process.pid, 2)
    output, _ = process.communicate(timeout=60)
    assert output.strip().splitlines()[-1] == "Stopped; run this again, it goes on where it stopped."
    assert "Traceback" not in output


def write_zip(path, entries):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as opened:
        for name, content in entries.items():
            opened.writestr(name, content)
    return path


def link(name):
    member = zipfile.ZipInfo(name)
    member.create_system, member.external_attr = 3, 0o120777 << 16
    return member


LAYOUT = {"train/A/1.jpg": b"x", "test/A/1.jpg": b"x"}


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        (LAYOUT | {"../evil.jpg": b"x"}, "leaves its folder"),
        (LAYOUT | {"train/A/../../../evil.jpg": b"x"}, "leaves its folder"),
        (LAYOUT | {"/evil.jpg": b"x"}, "leaves its folder"),
        (LAYOUT | {"C:\\evil.jpg": b"x"}, "leaves its folder"),
        (LAYOUT | {"..\\evil.jpg": b"x"}, "leaves its folder"),
        (LAYOUT | {link("train/A/link.jpg"): "/etc/passwd"}, "a link"),
        (LAYOUT | {"train/A/2.jpg": b"\0" * 10**7}, "not a set of images"),
        (LAYOUT | {"train/A/" + "x" * 300 + ".jpg": b"x"}, "a name that is too long"),
        ({"train/A/1.jpg": b"x"}, "no folders train/CLASS and test/CLASS"),
    ],
)
def test_hostile_archives_are_refused_whole(tmp_path, entries, message):
    archive = write_zip(tmp_path / "archive.zip", entries)
    target = tmp_path / "inside" / "chest_xray"
    with pytest.raises(ValueError, match=message):
        kaggle_download.unpack(archive, target)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["archive.zip"]


def test_broken_archive(tmp_path):
    (tmp_path / "archive.zip").write_bytes(archive_of(GOOD_NAMES)[:-100])
    with pytest.raises(ValueError, match=r"archive.zip is broken .*; delete it and run this again"):
        kaggle_download.unpack(tmp_path / "archive.zip", tmp_path / "chest_xray")


def test_long_names_are_unpacked(tmp_path):
    longest = "x" * 251 + ".jpg"
    kaggle_download.unpack(write_zip(tmp_path / "archive.zip", LAYOUT | {f"train/A/{longest}": b"x"}), tmp_path / "images")
    assert (tmp_path / "images" / "train" / "A" / longest).read_bytes() == b"x"


def test_an_archive_with_any_byte_flipped_is_unpacked_right_or_refused(tmp_path, rng):
    """Headers, names, compressed bytes, methods, the directory at the end: each of a small archive's bytes."""
    content = write_zip(tmp_path / "whole.zip", {name: bytes(range(60)) for name in LAYOUT}).read_bytes()
    refused = 0
    for position in range(len(content)):
        flipped = bytearray(content)
        flipped[position] ^= 1 << rng.integers(8)
        (tmp_path / "archive.zip").write_bytes(flipped)
        folder = tmp_path / f"images-{position}"
        try:
            kaggle_download.unpack(tmp_path / "archive.zip", folder)
        except ValueError as error:
            assert "\n" not in str(error)
            refused += 1
        else:
            assert all(path.read_bytes() == bytes(range(60)) for path in folder.rglob("*.jpg"))
    assert refused > len(content) / 3


@pytest.mark.parametrize("prefix", ["", "Data/", "a/b/c/"])
def test_train_is_found_at_any_depth(tmp_path, prefix):
    (tmp_path / "archive.zip").write_bytes(archive_of([*GOOD_NAMES, "notes.txt"], prefix))
    kaggle_download.unpack(tmp_path / "archive.zip", tmp_path / "chest_xray")
    assert len(list((tmp_path / "chest_xray").rglob("*.jpg"))) == len(GOOD_NAMES)
    assert not list(tmp_path.rglob("notes.txt"))
