# ruff: noqa: E501 - Dockerfiles are shown as lines
"""More of the corpus (`tests.support.dockerfiles`): the corners of every instruction, of names and of archives."""

import io
import tarfile

from tests.support.dockerfiles import FILES, Case, tar

ODD: dict[str, str | bytes] = {
    "a b": "blank",
    "ünï/çødé ☃": "snow",
    "new\nline": "two",
    "tab\tbed": "tab",
    'quo"te': "quote",
    "back\\slash": "backslash",
    "[brackets]": "brackets",
    "star*": "star",
    "dollar$x": "dollar",
    "-dash": "dash",
    "#hash": "hash",
    ".hidden": "hidden",
    "dir.d/.x/": "",
    "dir.d/.x/y": "y",
}


def _archive() -> bytes:
    """A tar with what archives hold beside files: links, devices, modes, owners, a whiteout, odd names."""
    written = io.BytesIO()
    with tarfile.open(fileobj=written, mode="w", format=tarfile.PAX_FORMAT) as opened:
        for name, kind, mode, link, data in (
            ("d", tarfile.DIRTYPE, 0o2750, "", b""),
            ("d/f", tarfile.REGTYPE, 0o4711, "", b"file"),
            ("d/hard", tarfile.LNKTYPE, 0o4711, "d/f", b""),
            ("d/soft", tarfile.SYMTYPE, 0o777, "f", b""),
            ("d/fifo", tarfile.FIFOTYPE, 0o640, "", b""),
            ("./dotted/x", tarfile.REGTYPE, 0o600, "", b"dotted"),
            ("/absolute", tarfile.REGTYPE, 0o644, "", b"absolute"),
            ("long/" + "n" * 150, tarfile.REGTYPE, 0o644, "", b"long"),
        ):
            member = tarfile.TarInfo(name)
            member.type, member.mode, member.linkname, member.size = kind, mode, link, len(data)
            member.uid, member.gid, member.mtime = 12, 34, 1704067200
            opened.addfile(member, io.BytesIO(data))
    return written.getvalue()


ARCHIVES: dict[str, str | bytes] = {
    "all.tar": _archive(),
    "b.tar.bz2": tar({"in/": "", "in/file": "packed"}, "w:bz2"),
    "empty.tar.gz": b"",
    "cut.tar": _archive()[:700],
    "plain.tar": "this is text",
    "out.tar": tar({"../out": "x"}),
    "a": "one",
    "dir/": "",
    "dir/in.tar": tar({"x": "x"}),
}
HARD: dict[str, str | bytes] = {"one": "same", "two = one": "", "sub/": "", "sub/three = one": "", "other": "x"}

GOOD_EDGES = [
    Case("odd names", "FROM busybox\nCOPY . /c/\n", ODD),
    Case("odd names one by one", 'FROM busybox\nCOPY ["a b", "/d/"]\nCOPY [[]brackets] /e/\nCOPY ["star\\\\*", "/f"]\nCOPY new* /g/\nCOPY *\\$x /h/\nCOPY -dash "#hash" /i/\n', ODD),
    Case("hidden files and wildcards", "FROM busybox\nCOPY * /c/\nCOPY .h* dir.d/* /d/\n", ODD),
    Case("hard links", "FROM busybox\nCOPY . /c/\nCOPY one two /d/\nCOPY sub /e\n", HARD),
    Case("destinations", "FROM busybox\nWORKDIR /w\nCOPY a x\nCOPY a ./y/\nCOPY a ../z\nCOPY a /v/.\nCOPY a .\nCOPY a ./\nCOPY b /etc\nCOPY b /bin/true\n", FILES),
    Case("sources", "FROM busybox\nCOPY ./dir/./sub/../x /y\nCOPY /a /b\nCOPY //b /c\nCOPY dir/sub/.. /d\nCOPY ./ /e/\nCOPY dir// /f/\n", FILES),
    Case("a source twice", "FROM busybox\nCOPY a a /d/\nCOPY dir dir/x /e/\n", FILES),
    Case("over what is there", "FROM busybox\nRUN mkdir -p /t/sub /u && echo old >/t/x && ln -s x /t/y && chmod 700 /t\nCOPY dir /t\nCOPY dir/x /t/y\n", FILES),
    Case("links of the context", "FROM busybox\nCOPY link* /l/\nCOPY linkdir/sub /m\nCOPY dir/l* /n/\nCOPY linkdir/ /o/\n", FILES),
    Case("a link with nothing behind it", "FROM busybox\nRUN ln -s /made/by/copy /s && mkdir /r && ln -s /r /t\nCOPY dir /t/u\nCOPY a /t\n", FILES),
    Case("from a stage what files can be", "FROM busybox AS s\nRUN mkdir /d && cd /d && echo x >f && ln f hard && ln -s f soft && mkfifo -m 620 p && chmod 6755 f && mkdir -m 1777 t && dd if=/dev/zero of=sparse bs=1 count=1 seek=1M 2>/dev/null && chown -h 3:4 soft && chown 5:6 t\nFROM busybox\nCOPY --from=s /d /e\nCOPY --from=s /d/soft /d/hard /g/\n"),
    Case("links of a stage", "FROM busybox AS s\nRUN mkdir /d && echo x >/d/f && ln -s /d /l && ln -s ../d /d/up && ln -s /l/f /abs\nFROM busybox\nCOPY --from=s /l /e\nCOPY --from=s /abs /g\nCOPY --from=s /d/up/f /h\nCOPY --from=s l/ /i/\n"),
    Case("owners by name", "FROM busybox\nARG WHO=daemon\nCOPY --chown=$WHO a /a\nCOPY --chown=${WHO}:mail a /b\nCOPY --chown=7:mail dir /d\nCOPY --chown=mail:9 a /new/deep/a\nCOPY --chown=0 a /e\n", FILES),
    Case("archives of all kinds", "FROM busybox\nADD all.tar /a\nADD b.tar.bz2 /b\nADD empty.tar.gz plain.tar /c/\nADD dir /d\nADD all.tar b.tar.bz2 /e/\nADD --chown=7:8 all.tar /f\nADD *.bz2 /g/\n", ARCHIVES),
    Case("archives over what is there", "FROM busybox\nRUN mkdir -p /x/d/old && touch /x/d/f && ln -s /y /x/long && mkdir /y\nADD all.tar /x\nADD all.tar /y/\n", ARCHIVES),
    Case("copied archives", "FROM busybox\nCOPY all.tar b.tar.bz2 /c/\n", ARCHIVES),
    Case("variables of all kinds", "FROM busybox\nENV A=\"x y\" B=\\\"q\\\" C='a $A' D=a\\ b E=$A:x F=a=b G= H=\"\\$A \\\\ \\n\"\nENV I  spaced   value \nENV A=${A}z J=$A\nLABEL \"k 1\"=\"v\\\n more\" k.2=$J k.2=twice k3=${Z:+no}${A:+yes}\nRUN echo \"$A|$B|$C|$D|$E|$F|$G|$H|$I|$J\" >/o\n"),
    Case("commands", 'FROM busybox\nCMD ["a", "b c", "\\u00e9"]\nENTRYPOINT []\nCMD []\n'),
    Case("shell forms", "FROM busybox\nCMD [not json]\nENTRYPOINT echo \"a\" 'b' $C\n"),
    Case("json with blanks", 'FROM busybox\nCMD  [ "a" ,  "b" ]  \nVOLUME [ "/v" , "/w" ]\nSHELL [ "/bin/sh" , "-c" ]\n'),
    Case("volumes in many forms", 'FROM busybox\nENV V=/vv\nVOLUME /a   /b\nVOLUME ["/c d"]\nVOLUME $V relative /e/\n'),
    Case("ports in many forms", "FROM busybox\nARG P=99\nEXPOSE 80/TCP 53/udp 1000-1002/tcp $P ${P}1/udp 9/sctp\nEXPOSE 80\n"),
    Case("signals", "FROM busybox\nSTOPSIGNAL 9\nSTOPSIGNAL SIGRTMIN+3\nARG S=HUP\nSTOPSIGNAL SIG$S\n"),
    Case("users", "FROM busybox\nUSER daemon\nRUN id >/tmp/a\nUSER 5:6\nRUN id >/tmp/b\nUSER root:mail\nRUN id >/tmp/c\nARG U=mail\nUSER $U\nRUN id >/tmp/d; echo $HOME >/tmp/e\n"),
    Case("directories to work in", "FROM busybox\nWORKDIR /a b/c\nWORKDIR d/\nWORKDIR ../e\nENV W=/x/y\nWORKDIR $W/z\nRUN pwd >/o\nWORKDIR /bin\nWORKDIR /\n"),
    Case("health in many forms", "FROM busybox\nHEALTHCHECK --interval=1h2m3.5s --timeout=100ms --start-period=5s --retries=0 CMD a  b\nHEALTHCHECK --retries=7 cmd [\"x\", \"y z\"]\nHEALTHCHECK none\nHEALTHCHECK CMD [\"a\"\n"),
    Case("triggers of all kinds", "FROM busybox AS t\nONBUILD ARG X=1\nONBUILD ENV Y=$X\nONBUILD WORKDIR /w/$X\nONBUILD COPY dir d\nONBUILD RUN echo $Y >o\nONBUILD USER 3\nonbuild  label  a=$X\nFROM t\nRUN id -u >/tmp/u; pwd >/tmp/p\n", FILES),
    Case("arguments in many forms", "ARG B=busybox\nARG T=lat\nARG T=${T}est\nFROM ${B}:${T}\nARG B\nARG Q=\"a b\" R='$Q' S=$Q E= N\nARG Q=${Q}-2\nRUN echo \"$B|$T|$Q|$R|$S|$E|$N|\" >/o\n"),
    Case("lines that end in many ways", "FROM busybox\r\nENV A=1 \\\r\n    B=2\r\nRUN echo $A$B >/o\r\n# comment\r\nLABEL x=y"),
    Case("a byte order mark", "\ufeffFROM busybox\nENV A=1\n"),
    Case("continued to the end", "FROM busybox\nENV A=1 \\\n"),
    Case("comments everywhere", "# one\nFROM busybox\n  # two\nRUN echo a \\\n# three\n   # four\n  b \\\n>/o\n#five\nENV A=# B=1#2\n"),
    Case("instructions in any case", "fRoM busybox aS x\ncOpY a /\nFROM x\nruN echo 1 >/o\n", FILES),
    Case("names of stages", "FROM busybox AS a.b-c_d\nRUN echo 1 >/f\nFROM scratch AS 0x\nFROM busybox\nCOPY --from=a.b-c_d /f /\n".replace(" AS 0x", " AS x0")),
    Case("patterns of .dockerignore", "FROM busybox\nCOPY . /c/\n", {**FILES, ".dockerignore": "# x\n**/x\n/dir/sub/\n!dir/sub/z\n  b  \n*.tar*\n!arc.tar\n./link\nnosuch/../script\n\n"}),
    Case("all but one is left out", "FROM busybox\nCOPY . /c/\n", {**FILES, ".dockerignore": "**\n!dir/sub\n"}),
    Case("heads and tails of variables", "FROM busybox\nENV P=/usr/local/bin/x.tar.gz\nLABEL a=${P##*/} b=${P%%.*} c=${P#/usr} d=${P%.gz} e=${P/l/L} f=${P//l/L} g=${P#nope} h=${#}x\n".replace(" h=${#}x", "")),
    Case("removed and made again", "FROM busybox\nRUN mkdir -p /d/e && touch /d/e/f /d/g\nRUN rm -r /d/e /d/g; ln -s /bin /d/e; mkdir /d/g\nRUN rm /d/e; mkdir /d/e; touch /d/e/h; rmdir /d/g; touch /d/g\n"),
    Case("modes of directories", "FROM busybox\nRUN chmod 700 /home; chmod 1777 /var; chown 3:4 /root; touch -t 200001010000 /etc/passwd; mkdir -m 2755 /s\nRUN umask 077; mkdir -p /u/v; touch /u/f\n"),
]  # fmt: skip

_NO_ARGUMENTS = [
    Case(f"{word} of nothing", f"FROM busybox\n{word}\n")
    for word in (
        *("ADD", "ARG", "CMD", "COPY", "ENTRYPOINT", "ENV", "EXPOSE", "FROM", "HEALTHCHECK", "LABEL", "MAINTAINER"),
        *("ONBUILD", "RUN", "SHELL", "STOPSIGNAL", "USER", "VOLUME", "WORKDIR"),
    )
]
_UNKNOWN_FLAGS = [
    Case(f"{text.split()[0]} with a flag nobody knows", f"FROM busybox\n{text}\n", FILES)
    for text in (
        "ADD --nosuch=1 a /", "ARG --nosuch=1 A", "CMD --nosuch=1 a", "ENTRYPOINT --nosuch=1 a", "ENV --nosuch=1 A=1",
        "EXPOSE --nosuch=1 1", "FROM --nosuch=1 busybox", "HEALTHCHECK --nosuch=1 CMD a", "LABEL --nosuch=1 a=1",
        "ONBUILD --nosuch=1 RUN a", "RUN --nosuch=1 a", 'SHELL --nosuch=1 ["a"]', "STOPSIGNAL --nosuch=1 9",
        "USER --nosuch=1 a", "VOLUME --nosuch=1 /a", "WORKDIR --nosuch=1 /a",
    )
]  # fmt: skip
BAD_EDGES = [
    *_NO_ARGUMENTS,
    *_UNKNOWN_FLAGS,
    Case("an archive that is cut", "FROM busybox\nADD cut.tar /c\n", ARCHIVES),
    Case("an archive that leads out", "FROM busybox\nADD out.tar /c/d\n", ARCHIVES),
    Case("an archive over a file", "FROM busybox\nRUN touch /f\nADD all.tar /f\n", ARCHIVES),
    Case("links in a circle", "FROM busybox\nRUN ln -s b /a && ln -s a /b\nCOPY a /a/x\n", FILES),
    Case("a link to nothing in the context", "FROM busybox\nCOPY broken /x\n", {"broken -> nosuch": ""}),
    Case("links in a circle in the context", "FROM busybox\nCOPY l /x\n", {"l -> m": "", "m -> l": ""}),
    Case("a file as a directory of the context", "FROM busybox\nCOPY a/b /x\n", FILES),
    Case("several to a file", "FROM busybox\nCOPY a b /etc/passwd\n", FILES),
    Case("wildcards to a file", "FROM busybox\nCOPY [ab] /x\n", FILES),
    Case("a bad pattern", "FROM busybox\nCOPY [a /x/\n", FILES),
    Case("all is left out", "FROM busybox\nCOPY a /x\n", {**FILES, ".dockerignore": "**\n"}),
    Case("owner without a name", "FROM busybox\nCOPY --chown=:5 a /x\n", FILES),
    Case("owner with too many names", "FROM busybox\nCOPY --chown=1:2:3 a /x\n", FILES),
    Case("a group nobody knows", "FROM busybox\nCOPY --chown=root:nosuch a /x\n", FILES),
    Case("an owner that is empty", "FROM busybox\nCOPY --chown= a /x\n", FILES),
    Case("json of one", 'FROM busybox\nCOPY ["a"]\n', FILES),
    Case("json without strings", "FROM busybox\nCOPY [1, 2]\n", FILES),
    Case("heredoc as a destination", "FROM busybox\nCOPY a <<E\nE\n", FILES),
    Case("base with two names", "FROM busybox as a b\n"),
    Case("base in capitals", "FROM BusyBox\n"),
    Case("a digest that is none", "FROM busybox@sha256:abc\n"),
    Case("a tag that is none", "FROM busybox:\n"),
    Case("a stage called scratch", "FROM busybox AS scratch\nFROM scratch\nCOPY a /\n", FILES),
    Case("label without a value", "FROM busybox\nLABEL a\n"),
    Case("label that is blank", "FROM busybox\nLABEL =x\n"),
    Case("env that is not closed", "FROM busybox\nENV A='x\n"),
    Case("argument that is blank", "FROM busybox\nARG =x\n"),
    Case("argument that is not closed", "FROM busybox\nARG A=\"x\n"),
    Case("bad substitutions", "FROM busybox\nENV A=${}\n"),
    Case("an unknown modifier", "FROM busybox\nENV A=${B~x}\n"),
    Case("substitution that is empty", "FROM busybox\nWORKDIR ${A:?}\n"),
    Case("a port range turned round", "FROM busybox\nEXPOSE 9-3\n"),
    Case("a port too high", "FROM busybox\nEXPOSE 70000\n"),
    Case("a port with an address", "FROM busybox\nEXPOSE 1.2.3.4:80:90\n"),
    Case("a signal too high", "FROM busybox\nSTOPSIGNAL 99\n"),
    Case("a signal that is empty", "FROM busybox\nSTOPSIGNAL $NOSUCH\n"),
    Case("two signals", "FROM busybox\nSTOPSIGNAL 9 9\n"),
    Case("health twice the same flag", "FROM busybox\nHEALTHCHECK --retries=1 --retries=2 CMD x\n"),
    Case("health below nothing", "FROM busybox\nHEALTHCHECK --retries=-1 CMD x\n"),
    Case("health without a unit", "FROM busybox\nHEALTHCHECK --timeout=5 CMD x\n"),
    Case("health of no time", "FROM busybox\nHEALTHCHECK --interval=x CMD x\n"),
    Case("health without a kind", "FROM busybox\nHEALTHCHECK --interval=5s\n"),
    Case("shell of nothing", "FROM busybox\nSHELL []\n"),
    Case("a volume that is blank", 'FROM busybox\nVOLUME [""]\n'),
    Case("no volumes", "FROM busybox\nVOLUME []\n"),
    Case("a user that is empty", "FROM busybox\nUSER $NOSUCH\nRUN id\n"),
    Case("a directory that is empty", "FROM busybox\nWORKDIR $NOSUCH\n"),
    Case("a trigger nobody knows", "FROM busybox\nONBUILD FOO x\n"),
    Case("a trigger that is bad", "FROM busybox AS a\nONBUILD COPY x\nFROM a\n"),
    Case("a trigger that maintains", "FROM busybox\nONBUILD MAINTAINER x\n"),
    Case("a trigger without words", "FROM busybox\nONBUILD RUN\n"),
    Case("a heredoc of nobody", "FROM busybox\nRUN <<\n"),
    Case("a heredoc in quotes that stay open", "FROM busybox\nCOPY <<\"E /x\nE\n"),
    Case("an instruction after arguments", "ARG A=1\nRUN x\nFROM busybox\n"),
    Case("a line too long", "FROM busybox\nENV A=" + "x" * 70000 + "\n"),
    Case("killed by a signal", "FROM busybox\nRUN kill -9 $$\n"),
    Case("a file that is no program", "FROM busybox\nRUN echo nothing >/x; chmod 755 /x\nRUN [\"/x\"]\n"),
    Case("a program that may not be run", "FROM busybox\nRUN [\"/etc/passwd\"]\n"),
    Case("a shell that is missing", 'FROM busybox\nSHELL ["/nosuch", "-c"]\nRUN true\n'),
    Case("no shell at all", "FROM scratch\nRUN true\n"),
    Case("a directory as a program", 'FROM busybox\nRUN ["/bin"]\n'),
    Case("work directory through a file", "FROM busybox\nWORKDIR /etc/passwd/x\n"),
]  # fmt: skip
