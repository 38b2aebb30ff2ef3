# ruff: noqa: E501 - Dockerfiles are shown as lines
"""A corpus of Dockerfiles, good and bad, with the contexts that they are built in."""

import io
import tarfile
from dataclasses import dataclass, field


def tar(files: dict[str, str | bytes], mode: str = "w") -> bytes:
    """A tar (`mode` w, w:gz, …) of files, name → content; `name/` is a directory, `name -> target` a link, `name = other`
    a second name of another file."""
    written = io.BytesIO()
    with tarfile.open(fileobj=written, mode=mode, format=tarfile.PAX_FORMAT) as opened:  # type: ignore[call-overload]  # a mode it knows
        for name, content in files.items():
            data = content.encode() if isinstance(content, str) else content
            member = tarfile.TarInfo(name.partition(" -> ")[0].partition(" = ")[0].rstrip("/"))
            member.mtime, member.mode = 1704067200, 0o644
            if name.endswith("/"):
                member.type, member.mode = tarfile.DIRTYPE, 0o750
            elif " -> " in name:
                member.type, member.linkname = tarfile.SYMTYPE, name.partition(" -> ")[2]
            elif " = " in name:
                member.type, member.linkname = tarfile.LNKTYPE, name.partition(" = ")[2]
            else:
                member.size = len(data)
            opened.addfile(member, io.BytesIO(data) if member.isreg() else None)
    return written.getvalue()


@dataclass
class Case:
    """One build. `query`: further parameters of POST /build."""

    name: str
    dockerfile: str
    files: dict[str, str | bytes] = field(default_factory=dict)
    query: dict[str, str] = field(default_factory=dict)

    def context(self) -> bytes:
        """What is sent."""
        return tar({**self.files, "Dockerfile": self.dockerfile})


FILES: dict[str, str | bytes] = {
    "a": "one",
    "b": "two",
    "script": "#!/bin/sh\necho script\n",
    "dir/": "",
    "dir/x": "x",
    "dir/y": "y",
    "dir/sub/": "",
    "dir/sub/z": "z",
    "dir/link -> x": "",
    "link -> a": "",
    "outside -> /etc/passwd": "",
    "linkdir -> dir": "",
    "arc.tar.gz": tar({"in/": "", "in/file": "packed"}, "w:gz"),
    "arc.tar.xz": tar({"in/": "", "in/file": "packed"}, "w:xz"),
    "arc.tar": tar({"plain": "packed"}),
    "text.gz": b"\x1f\x8b\x08 no gzip at all",
}

GOOD = [
    Case("one run", "FROM busybox\nRUN echo hello >/file && echo said && sleep 0.5 && echo wrong >&2\n"),
    Case(
        "metadata",
        'FROM busybox\nMAINTAINER Mole <m@x.test>\nENV A=1 B="two words" C=$A\nENV OLD the rest\nLABEL x=y "a b"=\'c d\'\n'
        'EXPOSE 80 443/tcp 53/udp 8000-8002\nVOLUME /data ["/other"]\nUSER 1000:1000\nWORKDIR /srv\nWORKDIR sub/../deep\n'
        'STOPSIGNAL SIGUSR1\nSHELL ["/bin/sh", "-ec"]\nCMD echo $A\nENTRYPOINT ["/bin/echo", "x"]\nCMD ["a", "b"]\n'
        "HEALTHCHECK --interval=90s --timeout=1.5s --retries=3 CMD true\nONBUILD RUN echo later\nARG Q=5\n",
    ),
    Case("volumes", 'FROM busybox\nVOLUME ["/a", "/b"]\nVOLUME /c /d\n'),
    Case("entrypoint resets command", 'FROM busybox\nENTRYPOINT exec top -b\nCMD ["x"]\n'),
    Case(
        "health twice", 'FROM busybox\nHEALTHCHECK CMD a\nHEALTHCHECK NONE\nHEALTHCHECK --start-period=1m CMD ["b"]\n'
    ),
    Case("copy a file", "FROM busybox\nCOPY a /x\nCOPY a /dir/\nCOPY a b /two/\nCOPY script /bin/script\n", FILES),
    Case("copy directories", "FROM busybox\nCOPY dir /d\nCOPY dir/ /e/\nCOPY dir /d\nCOPY dir/sub dir/x /f/\n", FILES),
    Case("copy all", "FROM busybox\nWORKDIR /w\nCOPY . .\n", FILES),
    Case("wildcards", "FROM busybox\nCOPY dir/[xy] /one/\nCOPY *.tar* /two/\nCOPY d?r /three/\n", FILES),
    Case("links", "FROM busybox\nCOPY link /l\nCOPY linkdir /ld\nCOPY linkdir/x /lx\n", FILES),
    Case(
        "copied over",
        "FROM busybox\nRUN mkdir -p /t/x && ln -s /t /s\nCOPY dir /t\nCOPY dir/sub /s\nCOPY a /s/q\n",
        FILES,
    ),
    Case(
        "owners",
        "FROM busybox\nCOPY --chown=7:8 dir /d\nCOPY --chown=55 a /new/deep/a\nCOPY --chown=root:root a /b\n",
        FILES,
    ),
    Case("json copy", 'FROM busybox\nCOPY ["a", "b", "/with blank/"]\n', FILES),
    Case(
        "add archives",
        "FROM busybox\nADD arc.tar.gz /gz\nADD arc.tar.xz arc.tar /xz/\nADD text.gz /t\nADD a /u\n",
        FILES,
    ),
    Case(
        "stages",
        "FROM busybox AS one\nRUN echo 1 >/made && chown 5:6 /made && chmod 600 /made\nFROM scratch AS two\nCOPY --from=one /made /m\n"
        "FROM busybox\nCOPY --from=0 /made /from0\nCOPY --from=two /m /from2\nCOPY --from=busybox /bin/true /t\n",
    ),
    Case(
        "from a stage",
        "FROM busybox AS base\nENV A=1\nFROM base\nRUN echo $A >/a\nFROM BASE AS last\nRUN echo $A >/b\n",
    ),
    Case("target", "FROM busybox AS one\nENV A=1\nFROM busybox AS two\nENV B=2\n", query={"target": "ONE"}),
    Case(
        "arguments",
        "ARG TAG=latest\nARG UNUSED=x\nFROM busybox:${TAG}\nARG TAG\nARG GIVEN=default\nARG D=$GIVEN-2\n"
        "RUN echo $TAG $GIVEN $D $HTTP_PROXY >/a\nENV GIVEN=env\nRUN echo $GIVEN >/b\nLABEL d=$D\n",
        query={"buildargs": '{"GIVEN": "told", "HTTP_PROXY": "http://p.test", "NOBODY": "1", "NULL": null}'},
    ),
    Case(
        "expansion",
        "FROM busybox\nENV A=abc.tar.gz E=\nENV B=${A%.*} C=${A##*.} D=${E:-dflt} F=${E:+no}x G=${A/abc/x} H='$A' I=\"q $A\" J=\\$A K=${NO-d}\n"
        "WORKDIR /$C\nCOPY $E/a $B\nUSER ${NO:-root}\nEXPOSE ${NO:-80 90}\nLABEL l=$A v=${A}x\n",
        FILES,
    ),
    Case("continued", "FROM busybox\nRUN echo a && \\\n  # comment\n\n  echo b \\\n  >/x\nENV A=1 \\\n    B=2\n"),
    Case("escape", "# escape=`\nFROM busybox\nRUN echo a `\n  b >/x\nENV A=a`b B=c\\d\n"),
    Case(
        "syntax and comments", "# syntax=docker/dockerfile:1\n# check=skip=all\n\n# more\n  FROM busybox\n\tRUN true\n"
    ),
    Case("exec form", 'FROM busybox\nRUN ["/bin/sh", "-c", "echo $0 >/x"]\nSHELL ["/bin/sh", "-xc"]\nRUN echo y >/y\n'),
    Case("nothing changed", "FROM busybox\nRUN true\n"),
    Case("deleted", "FROM busybox\nRUN mkdir /a && touch /a/b /c\nRUN rm -r /a /c\nRUN mkdir /a && touch /a/d\n"),
    Case(
        "onbuild used",
        "FROM busybox AS base\nONBUILD COPY a /o\nONBUILD RUN echo t >/t\nFROM base\nRUN cat /o >/p\n",
        FILES,
    ),
    Case("labels", "FROM busybox\nLABEL own=1\n", query={"labels": '{"z": "$A", "k": "v"}'}),
    Case("no volume data", "FROM busybox\nVOLUME /v\nRUN touch /v/gone /kept\n"),
    Case("user", "FROM busybox\nRUN mkdir -m 777 /w\nUSER 12\nWORKDIR /w/d\nRUN id -u >/w/id\nCOPY a /w/a\n", FILES),
    Case("ignored files", "FROM busybox\nCOPY . /c\n", {**FILES, ".dockerignore": "# c\nDockerfile\n.dockerignore\n"}),
    Case("network none", "FROM busybox\nRUN ls /sys/class/net >/n\n", query={"networkmode": "none"}),
    Case("hosts", "FROM busybox\nRUN grep mole /etc/hosts >/n\n", query={"extrahosts": "mole:10.1.2.3"}),
    Case("scratch alone", 'FROM scratch\nCOPY a /\nENV A=1\nCMD ["/a"]\n', FILES),
    Case("case and tabs", "from\tbusybox\nrun  echo   a>/x\nEnv a  b  c\n"),
    Case(
        "special modes",
        "FROM busybox\nRUN touch /s && chmod 4755 /s\nFROM busybox\nCOPY --from=0 /s /kept\nCOPY --from=0 --chown=1 /s /taken\n",
    ),
]

BAD = [
    Case("empty", ""),
    Case("comments only", "# nothing\n"),
    Case("unknown", "FROM busybox\nFOO bar\n"),
    Case("no stage", "RUN true\n"),
    Case("from twice", "FROM busybox as\n"),
    Case("stage name", "FROM busybox AS 1x\n"),
    Case("stage used", "FROM busybox AS a\nFROM busybox AS a\n"),
    Case("fails", "FROM busybox\nRUN exit 3\n"),
    Case("no command", 'FROM busybox\nRUN ["/nosuch"]\n'),
    Case("missing source", "FROM busybox\nCOPY nosuch /\n"),
    Case("missing in stage", "FROM busybox AS a\nFROM busybox\nCOPY --from=a /nosuch /\n"),
    Case("no match", "FROM busybox\nCOPY nosuch* /\n"),
    Case("several to one", "FROM busybox\nCOPY a b /x\n", FILES),
    Case("one argument", "FROM busybox\nCOPY a\n"),
    Case("unknown flag", "FROM busybox\nCOPY --foo=1 a /\n", FILES),
    Case("flag without value", "FROM busybox\nCOPY --chown a /\n", FILES),
    Case("flag twice", "FROM busybox\nCOPY --chown=1 --chown=2 a /\n", FILES),
    Case("mount", "FROM busybox\nRUN --mount=type=cache,target=/c true\n"),
    Case("current stage", "FROM busybox\nCOPY --from=0 /a /b\n"),
    Case("no such stage", "FROM busybox\nCOPY --from=5 /a /b\n"),
    Case("unknown user", "FROM busybox\nCOPY --chown=nobodyhere a /\n", FILES),
    Case("env alone", "FROM busybox\nENV A\n"),
    Case("env without", "FROM busybox\nENV A=1 B\n"),
    Case("env blank", "FROM busybox\nENV =1\n"),
    Case("label nothing", "FROM busybox\nLABEL\n"),
    Case("onbuild chained", "FROM busybox\nONBUILD ONBUILD RUN x\n"),
    Case("onbuild from", "FROM busybox\nONBUILD FROM x\n"),
    Case("health type", "FROM busybox\nHEALTHCHECK FOO x\n"),
    Case("health none", "FROM busybox\nHEALTHCHECK NONE x\n"),
    Case("health missing", "FROM busybox\nHEALTHCHECK CMD\n"),
    Case("health interval", "FROM busybox\nHEALTHCHECK --interval=5 CMD x\n"),
    Case("health short", "FROM busybox\nHEALTHCHECK --interval=5us CMD x\n"),
    Case("health retries", "FROM busybox\nHEALTHCHECK --retries=x CMD x\n"),
    Case("shell form", "FROM busybox\nSHELL /bin/sh -c\n"),
    Case("port", "FROM busybox\nEXPOSE abc\n"),
    Case("protocol", "FROM busybox\nEXPOSE 80/foo\n"),
    Case("signal", "FROM busybox\nSTOPSIGNAL NOSIG\n"),
    Case("substitution", "FROM busybox\nENV A=${B\n"),
    Case("modifier", "FROM busybox\nENV A=${B^x}\n"),
    Case("required", "FROM busybox\nENV A=${B:?is needed}\n"),
    Case("quote", 'FROM busybox\nENV A="b\n'),
    Case("blank base", "ARG X\nFROM $X\n"),
    Case("bad base", "FROM Bad:name\n"),
    Case("escape twice", "# escape=`\n# escape=`\nFROM busybox\n"),
    Case("bad escape", "# escape=x\nFROM busybox\n"),
    Case("json numbers", "FROM busybox\nCMD [1]\n"),
    Case("heredoc", "FROM busybox\nRUN <<EOF\nx\n"),
    Case("bad target", "FROM busybox\n", query={"target": "nosuch"}),
    Case("scratch only", "FROM scratch\n"),
    Case("copy url", "FROM busybox\nCOPY http://x.test/a /\n"),
    Case("trigger fails", "FROM busybox AS a\nONBUILD COPY nosuch /\nFROM a\n"),
    Case("outside", "FROM busybox\nCOPY ../x /\n"),
    Case("a link that leads out", "FROM busybox\nCOPY outside /x\n", FILES),
    Case("a directory's link that leads out", "FROM busybox\nCOPY up/etc/passwd /x\n", {"up -> ../../../../..": ""}),
    Case("a member outside", "FROM busybox\n", {"../evil": "x"}),
    Case("a member behind a link", "FROM busybox\n", {"l -> /tmp": "", "l/evil": "x"}),
    Case("dockerfile behind a link", "FROM busybox\n", {"D -> /etc/hostname": ""}, {"dockerfile": "D"}),
    Case("dockerfile outside", "FROM busybox\n", query={"dockerfile": "../../etc/hostname"}),
    Case("file over directory", "FROM busybox\nRUN mkdir /x && touch /x/y /z\nCOPY a /x/y/\n", FILES),
    Case("directory over file", "FROM busybox\nRUN touch /z\nCOPY dir /z\n", FILES),
    Case("workdir over file", "FROM busybox\nRUN touch /z\nWORKDIR /z\n"),
    Case("dockerfile name", "FROM busybox\n", query={"dockerfile": "Other"}),
    Case("bad tag", "FROM busybox\n", query={"t": "Bad:Name"}),
    Case("bad arguments", "FROM busybox\n", query={"buildargs": "["}),
]
