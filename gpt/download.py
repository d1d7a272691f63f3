"""A file from the web: with a progress bar, and taken up where it was cut."""

from __future__ import annotations

import os
import re
import time
from hashlib import sha256
from http.client import HTTPException
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from tqdm import tqdm

TIMEOUT = 30.0  # seconds without a byte
IN_VAIN = 3  # attempts in a row that bring nothing new, after which it is given up
WAIT = 1.0  # seconds before the second of them; twice that before the third


def download(address: str, path: Path) -> None:
    """Fetch `address` to the file `path`, which appears when it is complete.

    What has arrived stands in `path`.part meanwhile, also after a cut connection or a Ctrl-C; the next attempt, or the
    next call, asks the server for the rest only (RFC 9110, section 14). OSError says why it did not work.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    in_vain = 0
    while True:
        before, problem = _size(part), "the connection was cut"
        try:
            if _append(address, part):
                os.replace(part, path)
                return
        except HTTPError as error:
            error.close()
            problem = f"the server answered {error.code} {error.reason}"
            if error.code == 416:  # there is nothing after what is here: this is a part of something else
                part.unlink(missing_ok=True)
            elif error.code < 500 and error.code != 429:
                raise OSError(problem) from error
        except (OSError, HTTPException) as error:
            problem = str(getattr(error, "reason", error)) or type(error).__name__
        in_vain = in_vain + 1 if _size(part) <= before else 0
        if in_vain == IN_VAIN:
            raise OSError(problem)
        time.sleep(WAIT * 2 ** max(in_vain - 1, 0))


def _append(address: str, part: Path) -> bool:
    """Ask for what is missing of `part` and append it. Returns whether that is all."""
    here = _size(part)
    request = Request(address, headers={"User-Agent": "tensorlite", **({"Range": f"bytes={here}-"} if here else {})})
    with urlopen(request, timeout=TIMEOUT) as answer:
        if answer.status == 206:
            found = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", answer.headers.get("Content-Range", ""))
            if not found or int(found[1]) != here:
                part.unlink()
                raise OSError("the server sent another part than it was asked for")
            total = None if found[2] == "*" else int(found[2])
        else:  # the whole file, whatever was asked for
            here, length = 0, answer.headers.get("Content-Length")
            total = None if length is None else int(length)
        bar = tqdm(total=total, initial=here, unit="B", unit_scale=True, desc=part.stem, disable=None, leave=False)
        with part.open("ab" if here else "wb") as file, bar:
            while piece := answer.read1(1 << 18):
                file.write(piece)
                bar.update(len(piece))
    return total is None or _size(part) == total


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


def digest(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    found = sha256()
    with path.open("rb") as file:
        while piece := file.read(1 << 20):
            found.update(piece)
    return found.hexdigest()
