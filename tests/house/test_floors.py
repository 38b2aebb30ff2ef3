"""Imports go down only (docs/contributing.md draws the floors)."""

import os

from tests.house import source

CRAFTS = ("runtime", "content", "network", "builder", "store")
ROOF, WIRE, ENGINE, CRAFT, GROUND = 4, 3, 2, 1, 0
SIDE_DOORS = (
    "service.exit_hook",
    "service.keeper",
    "service.boot",
    "service.shutdown",
    "service.container_files",
    "service.build_files",
)  # programs of their own: they begin where the engine's verbs do


def floor(module: str) -> int:
    """The floor on which a module of ours stands."""
    first, _, rest = module.partition(".")
    if first == "compat_api":
        return WIRE
    part = rest.partition(".")[0]
    if module == "service.__main__":
        return ROOF
    if part == "engine" or module in SIDE_DOORS:
        return ENGINE
    return CRAFT if part in CRAFTS else GROUND


def module_of(path: str) -> str:
    """`service/engine/list.py` → `service.engine.list`."""
    return path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def known(name: str) -> str:
    """The module that an imported dotted name stands for: the name itself, or what holds it."""
    path = name.replace(".", "/")
    if os.path.exists(f"{source.ROOT}/{path}.py") or os.path.isdir(f"{source.ROOT}/{path}"):
        return name
    return name.rpartition(".")[0]


def test_imports_go_down_only() -> None:
    wrong = []
    for path, tree in source.below("service/", "compat_api/").items():
        importer = module_of(path)
        for line, name in source.imports(tree):
            if name.partition(".")[0] not in ("service", "compat_api"):
                continue
            imported = known(name)
            if imported == "service":
                continue  # `from service import x` where x is a module is known as service.x
            if floor(imported) > floor(importer):
                wrong.append(f"{path}:{line}: {importer} (floor {floor(importer)}) imports {imported}")
    assert not wrong, "\n".join(wrong)


def test_crafts_do_not_import_one_another() -> None:
    wrong = []
    for path, tree in source.below(*(f"service/{craft}/" for craft in CRAFTS)).items():
        own = path.split("/")[1]
        for line, name in source.imports(tree):
            parts = name.split(".")
            if parts[0] == "service" and len(parts) > 1 and parts[1] in CRAFTS and parts[1] != own:
                wrong.append(f"{path}:{line}: {own} imports {name}")
    assert not wrong, "\n".join(wrong)


def test_the_product_imports_neither_tests_nor_installation() -> None:
    wrong = [
        f"{path}:{line}: {name}"
        for path, tree in source.below("service/", "compat_api/").items()
        for line, name in source.imports(tree)
        if name.partition(".")[0] in ("tests", "install")
    ]
    assert not wrong, "\n".join(wrong)


def test_systemd_is_not_a_package() -> None:
    """With an __init__.py there, `import systemd.daemon` would find our folder instead of systemd-python."""
    assert not os.path.exists(f"{source.ROOT}/systemd/__init__.py")
