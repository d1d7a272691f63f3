"""Data by name: downloads against a server that cuts connections and lies, checksums, and what is said offline."""

import io
import zipfile
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest
from web import serving

from gpt import datasets, download
from gpt.datasets import DATASETS, cache_folder, fetch, find, missing
from gpt.options import UsageError
from gpt.tokenizer.__main__ import main as tokenizer
from train.corpus import read_text
from train.instructions import read_entries
from train.labelled import read_labelled

CONTENT = b"".join(b"%d green bottles\n" % i for i in range(5000))


@pytest.fixture(autouse=True)
def at_once(monkeypatch, tmp_path):
    """No waiting between attempts, and a cache folder of the test's own."""
    monkeypatch.setattr(download, "WAIT", 0.0)
    monkeypatch.setenv("TENSORLITE_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def served(monkeypatch):
    """served(name, address, content): the data set has this content and comes from there."""

    def change(name, address, content):
        changed = replace(DATASETS[name], address=address, sha256=sha256(content).hexdigest())
        monkeypatch.setitem(DATASETS, name, changed)

    return change


class Server:
    """Sends CONTENT, no more than the bytes that `allow` holds for each answer; knows ranges."""

    def __init__(self, content=CONTENT, allow=()):
        self.content, self.allow, self.ranges = content, list(allow), []

    def __call__(self, request):
        asked = request.headers.get("Range")
        self.ranges.append(asked)
        first = int(asked.removeprefix("bytes=").removesuffix("-")) if asked else 0
        rest = self.content[first:]
        sent = rest[: self.allow.pop(0)] if self.allow else rest
        if asked:
            span = f"bytes {first}-{len(self.content) - 1}/{len(self.content)}"
            request.reply(206, sent, claim=len(rest), Content_Range=span)
        else:
            request.reply(200, sent, claim=len(rest))


def test_a_cut_connection_is_taken_up_where_it_was_cut(tmp_path):
    server = Server(allow=[1000, 20_000, 0, 1])
    with serving(server) as address:
        download.download(address, tmp_path / "deep" / "file")
    assert (tmp_path / "deep" / "file").read_bytes() == CONTENT
    assert server.ranges == [None, "bytes=1000-", "bytes=21000-", "bytes=21000-", "bytes=21001-"]
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["file"]


def test_what_has_arrived_is_kept_for_the_next_call(tmp_path):
    server = Server(allow=[1000, 0, 0, 0])
    with serving(server) as address:
        with pytest.raises(OSError, match="the connection was cut"):
            download.download(address, tmp_path / "file")
        assert not (tmp_path / "file").exists() and (tmp_path / "file.part").read_bytes() == CONTENT[:1000]
        download.download(address, tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == CONTENT
    assert server.ranges == [None, *["bytes=1000-"] * 4]


def test_servers_without_ranges_and_with_other_ideas_of_the_file(tmp_path):
    (tmp_path / "file.part").write_bytes(b"x" * 10)
    with serving(lambda request: request.reply(200, CONTENT)) as address:
        download.download(address, tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == CONTENT

    def shifted(request):
        if request.headers.get("Range"):
            request.reply(206, b"no", Content_Range="bytes 3-4/5")
        else:
            request.reply(200, CONTENT)

    (tmp_path / "file.part").write_bytes(b"x" * 10)
    with serving(shifted) as address:
        download.download(address, tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == CONTENT

    (tmp_path / "file.part").write_bytes(b"x" * 10**6)  # longer than the file
    with serving(
        lambda request: request.reply(416) if request.headers.get("Range") else request.reply(200, CONTENT)
    ) as address:
        download.download(address, tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == CONTENT


def test_a_busy_server_is_asked_again_and_a_clear_no_is_taken(tmp_path):
    answers = [503, 429, 200]
    with serving(lambda request: request.reply(answers.pop(0), CONTENT)) as address:
        download.download(address, tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == CONTENT and answers == []
    asked = []
    with (
        serving(lambda request: (asked.append(1), request.reply(404))) as address,
        pytest.raises(OSError, match="404 Not Found"),
    ):
        download.download(address, tmp_path / "none")
    assert len(asked) == 1


def test_a_server_that_falls_silent(tmp_path, monkeypatch):
    monkeypatch.setattr(download, "TIMEOUT", 0.05)
    monkeypatch.setattr(download, "IN_VAIN", 1)
    from threading import Event

    over = Event()
    with serving(lambda request: over.wait(10)) as address:
        with pytest.raises(OSError, match="timed out"):
            download.download(address, tmp_path / "file")
        over.set()


# Data sets ---------------------------------------------------------------------------------------------


def test_a_name_is_downloaded_once_and_a_file_of_that_name_wins(tmp_path, monkeypatch, served):
    monkeypatch.chdir(tmp_path)
    server = Server()
    with serving(server) as address:
        served("the-verdict", address, CONTENT)
        assert find(Path("the-verdict")) == tmp_path / "cache" / "the-verdict.txt"
    assert find(Path("the-verdict")).read_bytes() == CONTENT  # from the cache: the server is gone
    assert server.ranges == [None] and [p.name for p in (tmp_path / "cache").iterdir()] == ["the-verdict.txt"]
    (tmp_path / "the-verdict").write_text("mine")
    assert find(Path("the-verdict")) == Path("the-verdict")
    assert find(Path("folder/the-verdict")) == Path("folder/the-verdict")


def test_another_content_is_refused_and_deleted(tmp_path, served):
    with serving(Server(b"something else")) as address:
        served("tinyshakespeare", address, CONTENT)
        with pytest.raises(
            UsageError, match=r"--data tinyshakespeare: what http://.* has the SHA-256 .* it was deleted"
        ):
            find(Path("tinyshakespeare"))
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_damaged_file_in_the_cache_is_refused_and_kept(tmp_path):
    path = tmp_path / "cache" / "the-verdict.txt"
    path.parent.mkdir()
    path.write_text("edited")
    with pytest.raises(
        UsageError, match=r"--data the-verdict: .*the-verdict.txt is not the file it should be.* delete"
    ):
        find(Path("the-verdict"))
    assert path.read_text() == "edited"


def zipped(**files):
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return held.getvalue()


def test_a_member_of_an_archive(tmp_path, served):
    table = b"ham\tHello\nspam\tWin\n"
    with serving(Server(zipped(readme="read", SMSSpamCollection=table), allow=[50])) as address:
        served("sms-spam", address, table)
        assert [example.label for example in read_labelled(Path("sms-spam"))] == ["ham", "spam"]
    assert [p.name for p in (tmp_path / "cache").iterdir()] == ["SMSSpamCollection.tsv"]


@pytest.mark.parametrize("content, message", [(b"no zip", "not a zip file"), (zipped(a="b"), "SMSSpamCollection")])
def test_a_broken_archive(tmp_path, served, content, message):
    with serving(Server(content)) as address:
        served("sms-spam", address, b"")
        with pytest.raises(
            ValueError, match=rf"the archive that was downloaded is broken .*{message}.*; it was deleted"
        ):
            fetch("sms-spam")
    assert list((tmp_path / "cache").iterdir()) == []


def test_offline_it_says_where_to_put_the_file(tmp_path, served, monkeypatch):
    monkeypatch.setattr(download, "IN_VAIN", 1)
    with serving(Server()) as address:
        pass
    served("sms-spam", address, CONTENT)  # where nobody listens any more
    with pytest.raises(UsageError) as stopped:
        read_labelled(Path("sms-spam"))
    said = str(stopped.value)
    assert said.startswith(f"--data sms-spam: not in {tmp_path / 'cache'}, and the download of {address} failed (")
    assert "Connection refused" in said
    assert said.endswith(
        "By hand: put the file SMSSpamCollection of the archive from that address at "
        f"{tmp_path / 'cache' / 'SMSSpamCollection.tsv'}"
    )
    (tmp_path / "cache" / "SMSSpamCollection.tsv").write_bytes(CONTENT)  # which is what one then does
    assert find(Path("sms-spam")).read_bytes() == CONTENT


def test_every_reader_knows_the_names(tmp_path, served, capsys):
    story, entries = b"Once upon a time, once upon a time.", b'[{"instruction": "Hi", "output": "Ho"}]'
    with serving(lambda request: request.reply(200, story if request.path == "/story" else entries)) as address:
        served("the-verdict", address + "/story", story)
        served("instruct-1100", address + "/entries", entries)
        assert read_text(Path("the-verdict")) == story.decode()
        assert [entry["output"] for entry, _ in read_entries(Path("instruct-1100"))] == ["Ho"]
    tokenizer(["train", "--data", "the-verdict", "--vocab-size", "260", "--out", str(tmp_path / "t.json")])
    assert f"from {len(story)} bytes" in capsys.readouterr().out


def test_the_checksums_are_those_of_the_files(data_dir):
    known = {name: data for name, data in DATASETS.items() if (data_dir / data.file).is_file()}
    assert set(known) >= {"sms-spam", "instruct-1100", "preference-1100", "tinyshakespeare", "the-verdict"}
    for data in known.values():
        assert download.digest(data_dir / data.file) == data.sha256


def test_where_the_cache_is(monkeypatch, tmp_path):
    assert cache_folder() == tmp_path / "cache"
    monkeypatch.delenv("TENSORLITE_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "tensorlite"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_folder() == Path.home() / ".cache" / "tensorlite"


def test_what_is_said_of_a_file_that_is_not_there(tmp_path):
    assert missing(Path("a/tinyshakespeare.txt")) == "there is no such file; --data tinyshakespeare downloads it"
    assert missing(Path("the-verdikt")) == "there is no such file; did you mean the-verdict, which is downloaded?"
    assert missing(tmp_path / "x.txt") == (
        f"there is no such file; looked in {tmp_path}. By name there are {', '.join(datasets.DATASETS)}"
    )
