"""RUN --mount: what it reads, and that nothing makes it fail otherwise than in words."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.builder import run_mounts
from service.builder.dockerfile import BadDockerfile

WORDS = st.sampled_from(
    (
        *run_mounts.KINDS,
        *("type", "from", "source", "target", "id", "sharing", "locked", "mode", "uid", "size", "ro", "rw", "required"),
        *("env", "=", ",", '"', "/", "7", "1m", "..", "é", "\n", " "),
    )
)


def read(text: str) -> run_mounts.RunMount:
    """A mount in /srv."""
    return run_mounts.placed(run_mounts.parse(text, str), "/srv")


def test_mounts() -> None:
    assert (read("target=x").type, read("target=x").target, read("target=x").read_only) == ("bind", "/srv/x", True)
    assert not read("type=bind,target=/x,rw").read_only
    cache = read("type=cache,dst=/c/../d,sharing=LOCKED,mode=700,uid=1")
    assert (cache.target, cache.sharing, cache.mode, cache.uid, cache.read_only) == ("/d", "locked", 0o700, 1, False)
    assert read("type=secret,id=a/b").target == "/run/secrets/b"
    secret = read("type=secret,id=k,env=K")
    assert (secret.target, secret.environment) == ("", "K")
    assert read("type=tmpfs,target=/t,size=2m").size == 2 << 20
    assert read("type=tmpfs,target=/t,size=1.5GiB").size == 3 << 29
    assert [read(f"target=/x,source={path}").source for path in ("d/../f", "../..", "/d/")] == ["/f", "/", "/d"]
    assert read("type=secret,source=a/b,target=s").id == "a/b"
    assert run_mounts.parse("type=$T,target=/x", lambda text: text.replace("$T", "TMPFS")).type == "tmpfs"
    assert (read("type=ssh").id, read("type=ssh,required").required) == ("default", True)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("type=what,target=/x", 'unsupported mount type "what"'),
        ("type=cache,target=/", 'invalid mount target "/"'),
        ("type=cache,target=/x,sharing=some", 'unsupported sharing value "some"'),
        ("type=bind,target=/x,other=1", "unexpected key 'other' in 'other=1'"),
        ("type=bind,target", "invalid field 'target' must be a key=value pair"),
        ("type=bind,target=/x,", "invalid field '' must be a key=value pair"),
        ("type=tmpfs,target=/x,mode=700", 'mode not allowed for "tmpfs" type mounts'),
        ("target=/x,uid=1", 'uid not allowed for "bind" type mounts'),
        ("target=/x,required", "unexpected key 'required' for mount type 'bind'"),
        ("required,type=secret,id=x", "unexpected key 'required' for mount type 'bind'"),
        ("type=cache,target=/x,size=1m", "unexpected key 'size' for mount type 'cache'"),
        ("type=secret,id=s,sharing=locked", "secret mount should not define sharing"),
        ("type=secret,id=s,source=t", "both source and id can't be set"),
        ("type=tmpfs,target=/x,size=-1", "invalid value for size: -1"),
        ("type=tmpfs,target=/x,size=much", "invalid value for size: much"),
    ],
)
def test_what_is_no_mount(text: str, message: str) -> None:
    with pytest.raises(BadDockerfile) as caught:
        read(text)
    assert str(caught.value) == message


@given(st.lists(WORDS, max_size=20).map("".join))
def test_any_text_is_a_mount_or_is_refused(text: str) -> None:
    try:
        mount = read(text)
    except BadDockerfile:
        return
    assert mount.target.startswith("/") or mount.type in ("secret", "ssh")
