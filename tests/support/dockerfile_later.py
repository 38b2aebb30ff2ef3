# ruff: noqa: E501 - Dockerfiles are shown as lines
"""Dockerfiles that say what dockerd's BuildKit knows from 28 on."""

from tests.support.dockerfiles import Case, tar

FILES: dict[str, str | bytes] = {
    "f": "x\n",
    "x.sh": "y",
    "dir/": "",
    "dir/a": "1",
    "dir/sub/": "",
    "dir/sub/b": "2",
    "l -> f": "",
    "t.tar": tar({"q": "1", "d/": "", "d/z": ""}),
}

LATER = [
    Case("symbolic modes", "FROM busybox\nCOPY --chmod=u=rwX,go=rX dir /d\nCOPY --chmod=g+w f x.sh /e/\nADD --chmod=a+x l /lf\nCOPY --chmod=+x,o= <<E /h\nE\n", FILES),
    Case("symbolic modes of special bits", "FROM busybox AS s\nRUN mkdir -m 1770 /d && touch /d/f && chmod 6751 /d/f && ln -s f /d/l\nFROM busybox\nCOPY --from=s --chmod=go-rx /d /e\nCOPY --from=s --chmod=u-s,+t /d/l /d/f /g/\n"),
    Case("a symbolic mode in a variable", "FROM busybox\nARG M=u+x\nCOPY --chmod=$M f /f\nCOPY --chmod=${N:-g+w} dir /g\n", FILES),
    Case("a mode for directories that are made", "FROM busybox\nCOPY --chmod=711 dir /d\nCOPY --chmod=600 --chown=3:4 f /p/q/r\nCOPY --link --chmod=604 dir /e\n", FILES),
    Case("a symbolic mode for directories that are made", "FROM busybox\nCOPY --chmod=go= dir /d\nCOPY --chmod=go= f /p/q/r\n", FILES),
    Case("a mode for directories that are there", "FROM busybox\nRUN mkdir -m 701 /d\nCOPY --chmod=611 dir /d\nCOPY --chmod=612 dir/sub /d/sub\n", FILES),
    Case("an archive's owner", "FROM busybox\nADD --chmod=640 t.tar /new/\nADD --chmod=640 --chown=3:4 t.tar /new2/x/y/\n", FILES),
    Case("a mode with zeros before it", "FROM busybox\nCOPY --chmod=0000000640 f /f\n", FILES),
]  # fmt: skip

LATER_BAD = [
    Case("a symbolic mode that is none", "FROM busybox\nCOPY --chmod=u=q f /f\n", FILES),
    Case("a mode that looks like a number", "FROM busybox\nCOPY --chmod=0o755 f /f\n", FILES),
]
