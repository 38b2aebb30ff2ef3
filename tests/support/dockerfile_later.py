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
    Case("arguments of one line", "FROM busybox\nARG A=1 B=$A C=${B}2\nRUN echo $A$B$C >/o\n"),
    Case("an argument twice", "FROM busybox\nARG A=1\nARG A=2\nRUN echo $A >/o\nARG B\nRUN echo [$B] >>/o\nARG B=3\nRUN echo $B >>/o\n"),
    Case("an argument twice that the client gives", "FROM busybox\nARG A=1\nARG A=2\nRUN echo $A >/o\n", query={"buildargs": "A=g"}),
    Case("arguments for all stages", "ARG A=x-$TARGETARCH\nFROM busybox AS a\nARG A=local\nENV X=2\nARG X=3\nFROM a\nRUN echo $A $X >/o\nARG A TARGETOS\nRUN echo $A >>/o\n"),
    Case("proxies in both cases", "FROM busybox\nRUN env | grep -i proxy | sort >/o\n", query={"buildargs": "no_proxy=n"}),
    Case("the stage that is built", "FROM busybox AS one\nARG TARGETSTAGE\nRUN echo $TARGETSTAGE >/o\nFROM one AS two\nARG TARGETSTAGE TARGETOSVERSION BUILDVARIANT\nRUN echo $TARGETSTAGE >>/o\n"),
    Case("the stage that is asked for", "FROM busybox AS one\nARG TARGETSTAGE\nRUN echo $TARGETSTAGE >/o\nFROM one AS two\n", query={"target": "one"}),
    Case("a base by the stage that is built", "FROM busybox AS x-default\nRUN touch /d\nFROM x-$TARGETSTAGE\n"),
    Case("exposed ports", "FROM busybox\nENV P='80 81/udp'\nEXPOSE $P 9-11/udp 443/TCP\nEXPOSE 1.2.3.4:80:90 [::1]:1:2 5:6 $NOPE\n"),
    Case("directories as they are written", "FROM busybox\nWORKDIR /a/b/\nRUN pwd >/o\nWORKDIR c/../d/\nRUN pwd >>/o\nWORKDIR /x//y\nCOPY f q/\nRUN pwd >>/o\n", FILES),
    Case("files left out by their names", "FROM busybox\nCOPY --exclude=*.txt --exclude=sub dir /o/\nCOPY --exclude=/sub dir /p/\nCOPY --exclude=sub --exclude=!sub/b dir /q/\n", FILES),
    Case("a heredoc beside a file", "FROM busybox\nCOPY <<E f /d/\nx\nE\n", FILES),
    Case("an owner without a group", "FROM busybox\nCOPY --chown=7: f /p\nCOPY --chown=daemon: f /q\n", FILES),
    Case("a mount's source with dots", "FROM busybox\nRUN --mount=target=/c,source=dir/../f cp /c /o\nRUN --mount=target=/c,source=../.. ls /c >/l\n", FILES),
    Case("a mount's size in parts", "FROM busybox\nRUN --mount=type=tmpfs,target=/t,size=1.5m df -k /t | tail -1 | awk '{print $2}' >/o\n"),
    Case("all of nothing", "FROM busybox\nCOPY --from=scratch / /o/\nRUN --mount=from=scratch,target=/m,rw touch /m/x\n"),
]  # fmt: skip

LATER_BAD = [
    Case("a port of no protocol", "FROM busybox\nEXPOSE 80/foo\n"),
    Case("a port of no address", "FROM busybox\nEXPOSE x:80:90\n"),
    Case("ports that are not as many", "FROM busybox\nEXPOSE 1-3:4-5\n"),
    Case("a check that is none", "# check=foo=bar\nFROM busybox\n"),
    Case("a finding that is an error", "# check=error=true\nFROM busybox\nCMD x\n"),
    Case("a base that is blank", "FROM $X\n"),
    Case("a platform that is blank", "FROM --platform=$X busybox\n"),
    Case("a stage by a variable", "FROM busybox AS s\nFROM busybox\nCOPY --from=$X /bin/true /o/\n"),
    Case("a stage before the first", "FROM busybox\nCOPY --from=-1 /bin/true /o/\n"),
    Case(
        "a stage that comes later",
        "FROM busybox AS s\nCOPY --from=t /bin/true /o/\nFROM busybox AS t\n",
        query={"target": "s"},
    ),
    Case(
        "a mount of a stage that comes later",
        "FROM busybox AS s\nRUN --mount=from=t,target=/m true\nFROM busybox AS t\n",
        query={"target": "s"},
    ),
    Case("a pattern that is none", "FROM busybox\nCOPY --exclude=[a dir /o/\n", FILES),
    Case("a mount that has no mode", "FROM busybox\nRUN --mount=type=tmpfs,target=/t,mode=700 true\n"),
    Case("a mount that cannot be required", "FROM busybox\nRUN --mount=target=/x,required true\n"),
    Case("a secret that is shared", "FROM busybox\nRUN --mount=type=secret,id=s,sharing=locked true\n"),
    Case("a checksum of a file", "FROM busybox\nADD --checksum=sha256:00 f /o/\n", FILES),
    Case("a symbolic mode that is none", "FROM busybox\nCOPY --chmod=u=q f /f\n", FILES),
    Case("a mode that looks like a number", "FROM busybox\nCOPY --chmod=0o755 f /f\n", FILES),
]
