"""The YAML that machines write is read; what is not understood is an error and never a guess."""

from typing import Any

import pytest

from service import yamltext

NVIDIA = """\
---
cdiVersion: 0.5.0
# as nvidia-ctk writes it
containerEdits:
  env:
  - NVIDIA_VISIBLE_DEVICES=void
  hooks:
  - args:
    - nvidia-cdi-hook
    - create-symlinks
    - --link
    - ../libnvidia-allocator.so.1::/usr/lib/x86_64-linux-gnu/gbm/nvidia-drm_gbm.so
    hookName: createContainer
    path: /usr/bin/nvidia-cdi-hook
  mounts:
  - containerPath: /usr/bin/nvidia-smi
    hostPath: /usr/bin/nvidia-smi
    options: [ro, nosuid, "nodev", bind]
devices:
- containerEdits:
    deviceNodes:
    - fileMode: 438
      path: /dev/nvidia0
      permissions: rw
  name: "0"
-
  name: all   # every one
  containerEdits: {deviceNodes: [{path: /dev/nvidia0}, {path: '/dev/nvidia1', major: 195}]}
kind: nvidia.com/gpu
"""


def test_a_device_file() -> None:
    read = yamltext.loads(NVIDIA)
    assert read["cdiVersion"] == "0.5.0"
    assert read["kind"] == "nvidia.com/gpu"
    assert read["containerEdits"]["env"] == ["NVIDIA_VISIBLE_DEVICES=void"]
    assert read["containerEdits"]["hooks"][0]["args"][2:] == [
        "--link",
        "../libnvidia-allocator.so.1::/usr/lib/x86_64-linux-gnu/gbm/nvidia-drm_gbm.so",
    ]
    assert read["containerEdits"]["mounts"][0]["options"] == ["ro", "nosuid", "nodev", "bind"]
    first, every = read["devices"]
    assert first == {
        "containerEdits": {"deviceNodes": [{"fileMode": 438, "path": "/dev/nvidia0", "permissions": "rw"}]},
        "name": "0",
    }
    assert every["name"] == "all"
    assert every["containerEdits"]["deviceNodes"] == [{"path": "/dev/nvidia0"}, {"path": "/dev/nvidia1", "major": 195}]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("", None),
        ("a: 1\nb: -2\nc: 0660\nd: 1.5", {"a": 1, "b": -2, "c": 432, "d": 1.5}),
        ("e: ~\nf:\ng: true\nh: False", {"e": None, "f": None, "g": True, "h": "False"}),
        ("a: it's # not\nb: 'it''s # x'", {"a": "it's", "b": "it's # x"}),
        ('c: "a\\tb # c"', {"c": "a\tb # c"}),
        ("url: http://x:80/#y", {"url": "http://x:80/#y"}),
        ("- - 1\n  - 2\n- a: 1\n  b:\n  - 3", [[1, 2], {"a": 1, "b": [3]}]),
        ("long: one\n  two\n  three\nnext: 1", {"long": "one two three", "next": 1}),
        ('"quoted key": []\n\'k\': {}', {"quoted key": [], "k": {}}),
        ("a: [1, [2, 'x, y'], {b: c}]", {"a": [1, [2, "x, y"], {"b": "c"}]}),
    ],
)  # fmt: skip
def test_values(text: str, value: Any) -> None:
    assert yamltext.loads(text) == value


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("a: |\n  text", "line 1: | is not read here"),
        ("a: &x 1", "line 1: & is not read here"),
        ("a: !tag 1", "line 1: ! is not read here"),
        ("a: 1\na: 2", "line 2: key a occurs twice"),
        ("a: [1, 2", "line 1"),
        ("a:\n\t- 1", "line 2: a tab cannot indent"),
        ("a: 1\n- 2", "line 2: unexpected text"),
        ('a: "x', "line 1: a quote is not closed"),
        ("a:\n    b: 1\n  c: 2", "line 3"),
    ],
)
def test_what_is_not_read(text: str, complaint: str) -> None:
    with pytest.raises(ValueError, match="line") as error:
        yamltext.loads(text)
    assert str(error.value).startswith(complaint)
