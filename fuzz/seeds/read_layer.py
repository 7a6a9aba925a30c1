#!/usr/bin/env python3
"""Writes small archives of every dialect to start fuzzing from. usage: read_layer.py <directory>"""

import io
import os
import sys
import tarfile

target = sys.argv[1]
os.makedirs(target, exist_ok=True)
kinds = {"file": tarfile.REGTYPE, "dir": tarfile.DIRTYPE, "symlink": tarfile.SYMTYPE,
         "link": tarfile.LNKTYPE, "char": tarfile.CHRTYPE, "block": tarfile.BLKTYPE,
         "fifo": tarfile.FIFOTYPE}
for dialect in (tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
    for kind, flag in kinds.items():
        for name in ("a", "d/" + "x" * 90, "y/" * 60 + "z", ".wh.a", "a/.wh..wh..opq", "./"):
            out = io.BytesIO()
            with tarfile.open(fileobj=out, mode="w", format=dialect) as archive:
                info = tarfile.TarInfo(name)
                info.type, info.linkname, info.size = flag, "t" * 120, 5 if kind == "file" else 0
                if dialect == tarfile.USTAR_FORMAT:
                    info.linkname = "t"
                if dialect == tarfile.PAX_FORMAT:
                    info.mtime = 1.5
                    info.pax_headers = {"SCHILY.xattr.user.x": "a\nb", "uid": "4000000000"}
                archive.addfile(info, io.BytesIO(b"hello"))
            number = len(os.listdir(target))
            with open(os.path.join(target, f"{number:03}.tar"), "wb") as seed:
                seed.write(out.getvalue()[:4096])
