"""Data by name: `--data sms-spam` is a file that is downloaded once, checked, and kept.

    path = find(Path("tinyshakespeare"))  # in the cache folder
    path = find(Path("my-text.txt"))  # a path is itself

Files are kept in $TENSORLITE_CACHE, else in ~/.cache/tensorlite ($XDG_CACHE_HOME/tensorlite). Each is held against its
SHA-256 whenever it is used, so that a damaged or changed file never becomes a result.
"""

from __future__ import annotations

import os
import zipfile
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

from gpt.download import digest, download
from gpt.options import UsageError

_BOOK = "https://raw.githubusercontent.com/rasbt/LLMs-from-scratch/main/"


@dataclass(frozen=True)
class Dataset:
    """file     its name in the cache folder
    about    what it is, and under which licence
    sha256   of the file
    address  where it comes from
    member   if that is a zip archive: its part that is the file
    """

    file: str
    about: str
    sha256: str
    address: str
    member: str | None = None


DATASETS = {
    "sms-spam": Dataset(
        "SMSSpamCollection.tsv",
        "5,572 text messages, ham or spam (Almeida and Hidalgo, 2011; UCI, CC BY 4.0)",
        "7d039a24a6083ed9ef0f806ebad56bbb976e3aeb8de05669173bfdc4996c239d",
        "https://archive.ics.uci.edu/static/public/228/sms+spam+collection.zip",
        "SMSSpamCollection",
    ),
    "instruct-1100": Dataset(
        "instruction-data.json",
        "1,100 instructions with answers (Raschka's book, chapter 7; Apache-2.0)",
        "7e09a9af353722ca15c18bc580f093f9c39d3178335a75177319cb1e1d163944",
        _BOOK + "ch07/01_main-chapter-code/instruction-data.json",
    ),
    "preference-1100": Dataset(
        "instruction-data-with-preference.json",
        "the same with two answers each, of which one is preferred (Apache-2.0)",
        "305315abf14f65fa42c01a0877572f832606571c2a7d49f152ac1d758b16756e",
        _BOOK + "ch07/04_preference-tuning-with-dpo/instruction-data-with-preference.json",
    ),
    "tinyshakespeare": Dataset(
        "tinyshakespeare.txt",
        "1,115,394 characters of Shakespeare (Karpathy's char-rnn; public domain)",
        "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed",
        "https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/input.txt",
    ),
    "the-verdict": Dataset(
        "the-verdict.txt",
        "a short story by Edith Wharton, 1908 (public domain)",
        "b41e41a68f0398a3154ae69e2e4c0e2694e17fe0d66730536837f1b01935b31f",
        _BOOK + "ch02/01_main-chapter-code/the-verdict.txt",
    ),
    "hellaswag-val": Dataset(
        "hellaswag_val.jsonl",
        "10,042 beginnings with four endings each (Zellers et al., 2019; MIT)",
        "0aa3b88843990f3f10a97b9575c94d7b71fb2205240ba04ae4884d9e9c992588",
        "https://raw.githubusercontent.com/rowanz/hellaswag/master/data/hellaswag_val.jsonl",
    ),
}


def cache_folder() -> Path:
    """The folder in which data sets are kept."""
    if chosen := os.environ.get("TENSORLITE_CACHE"):
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "tensorlite")


def find(path: Path, flag: str = "--data") -> Path:
    """The file that a person means: `path` itself if it is a file or no known name, else that data set's file.

    UsageError, which begins with `flag`, where it cannot be had.
    """
    if path.is_file() or str(path) not in DATASETS:
        return path
    try:
        return fetch(str(path))
    except (OSError, ValueError) as error:
        raise UsageError(f"{flag} {path}: {error}") from error


def fetch(name: str) -> Path:
    """The file of a data set, downloaded if it is not in the cache folder.

    OSError where it cannot be downloaded, which says where to put it by hand; ValueError where its SHA-256 is wrong.
    """
    data = DATASETS[name]
    path = cache_folder() / data.file
    if path.is_file():
        if (found := digest(path)) != data.sha256:
            raise ValueError(
                f"{path} is not the file it should be: its SHA-256 is {found}, not {data.sha256}; delete it, and it "
                "is downloaded anew, or give the path of a file of your own"
            )
        return path
    arriving = path.with_name(f"{path.name}.{'zip' if data.member else 'new'}")
    try:
        download(data.address, arriving)
        if data.member:
            arriving = _unpacked(arriving, data.member)
        if (found := digest(arriving)) != data.sha256:
            arriving.unlink()
            raise ValueError(
                f"what {data.address} sent has the SHA-256 {found} and not {data.sha256}: it arrived damaged, or is "
                "another file by now; it was deleted"
            )
        os.replace(arriving, path)
    except OSError as error:
        what = f"the file {data.member} of the archive" if data.member else "the file"
        raise OSError(
            f"not in {path.parent}, and the download of {data.address} failed ({error}); what has arrived is kept, "
            f"and the same command goes on from there. By hand: put {what} from that address at {path}"
        ) from error
    return path


def _unpacked(archive: Path, member: str) -> Path:
    """`member` beside the archive, which is deleted. ValueError if it is broken."""
    file = archive.with_suffix(".new")
    try:
        with zipfile.ZipFile(archive) as opened:
            file.write_bytes(opened.read(member))
    except (KeyError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(f"the archive that was downloaded is broken ({error}); it was deleted") from error
    finally:
        archive.unlink()
    return file


def missing(path: Path) -> str:
    """What to tell a person for whom there is no file `path`."""
    for name, data in DATASETS.items():
        if path.name == data.file:
            return f"there is no such file; --data {name} downloads it"
    if close := get_close_matches(str(path), DATASETS, n=1):
        return f"there is no such file; did you mean {close[0]}, which is downloaded?"
    return f"there is no such file; looked in {path.resolve().parent}. By name there are {', '.join(DATASETS)}"
