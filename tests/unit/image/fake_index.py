# SPDX-License-Identifier: GPL-3.0-or-later
"""An upstream with any project, each of which has a wheel."""

from __future__ import annotations

import hashlib
import json

from devpi_mirror.pages import JSON
from zips import OWN, metadata_of, zip_of

METADATA = metadata_of("alpha", "1.0") + b"Requires-Dist: required\n"
WHEEL = zip_of(METADATA, OWN)


class Index:
    """Responds to requests for pages and files of projects. Each project exists, so each test uses a name of its own."""

    def __init__(self) -> None:
        self.files = {}
        self.status = {}
        self.fields = {}
        self.others = {}
        self.answers = {}

    def __call__(self, handler) -> None:
        name = handler.path.strip("/").split("/")[-1]
        if handler.path in self.answers:
            self.answers[handler.path](handler)
        elif handler.path in self.status:
            handler.send(self.status[handler.path])
        elif handler.path.startswith("/simple/"):
            filename = f"{name}-1.0-py3-none-any.whl"
            file = {"filename": filename, "url": f"/files/{filename}"}
            file["hashes"] = {"sha256": hashlib.sha256(WHEEL).hexdigest()}
            files = [{**file, **self.fields.get(name, {})}]
            files += [{**file, "filename": other} for other in self.others.get(name, ())]
            page = {"meta": {"api-version": "1.4"}, "name": name, "files": files}
            handler.send(200, json.dumps(page).encode(), Content_Type=JSON, ETag='"1"', X_PyPI_Last_Serial="3")
        elif handler.path.endswith(".metadata"):
            handler.send(200, METADATA)
        else:
            wanted = handler.headers.get("Range", "")
            if wanted.startswith("bytes=-"):
                handler.send(206, WHEEL, Content_Range=f"bytes 0-{len(WHEEL) - 1}/{len(WHEEL)}")
            else:
                handler.send(200, WHEEL)
