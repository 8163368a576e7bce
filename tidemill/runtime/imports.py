"""Which files of this project a module needs: the closure of its imports.

They are read from the source; nothing is run. Imports inside functions count. So do strings that
hold the whole name of a module, as in the command line of a child. What stands under
`if TYPE_CHECKING:` does not.
"""

import ast
import re
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from pathlib import Path

from tidemill.runtime.errors import Refused
from tidemill.runtime.files import digest, sha256
from tidemill.runtime.paths import root

TOPS = ("tidemill", "tasks", "recipes")
QUOTED = re.compile(r"""["']((?:tidemill|tasks|recipes)(?:\.\w+)+)["']""")
ENDS = ("tidemill.runtime", "tidemill.engines", "tidemill.run")
"""Where a closure ends: how a step is run, logged and configured changes no byte it makes."""


def closure(
    modules: Iterable[str],
    ends: tuple[str, ...] = ENDS,
    without: Callable[[Path], bool] = lambda path: False,
    files: Iterable[Path] = (),
) -> list[Path]:
    """The files that these modules and files need, their own included, sorted.

    A package's `__init__` counts where something below it is imported, but not a step's: it is the
    Prefect task. Modules within `ends`, and files of which `without` is true, are not followed.
    """
    top = home()
    met: set[Path] = set()
    known: set[str] = set()
    left = [path for name in modules for path in _parts(top, name)] + list(files)
    while left:
        path = left.pop()
        if path in met or without(path):
            continue
        met.add(path)
        new = _imports(path, path.stat().st_mtime_ns) - known
        known |= new
        left += [part for name in new if not within(name, ends) for part in _parts(top, name)]
    return sorted(met)


def files_of(name: str) -> list[Path]:
    """All files of a module or package: modules and what else lies beside them."""
    base = home().joinpath(*name.split("."))
    return files_at(base if base.is_dir() else base.with_suffix(".py"))


def files_at(path: Path) -> list[Path]:
    """A file, or all files of a folder; caches and hidden files left out."""
    if path.is_file():
        return [path]
    return sorted(
        file
        for file in path.rglob("*")
        if file.is_file() and file.name[0] != "." and "__pycache__" not in file.parts
    )


def module(path: Path) -> str:
    """The name of the module that a file of the project is."""
    return ".".join(path.relative_to(home()).with_suffix("").parts).removesuffix(".__init__")


def names(paths: Iterable[Path]) -> list[str]:
    """Files by their path within the project; those of an installed package by folder and name."""
    top = home()
    return [
        path.relative_to(top).as_posix() if path.is_relative_to(top) else "/".join(path.parts[-2:])
        for path in paths
    ]


def code_digest(paths: list[Path]) -> str:
    """One digest for files: their names and bytes."""
    return digest(sorted(zip(names(paths), map(sha256, paths), strict=True)))


def loads(path: Path, packages: tuple[str, ...]) -> bool:
    """Whether a file loads one of these packages as soon as it is imported itself."""
    body = _tree(path, path.stat().st_mtime_ns).body
    return any(name.split(".")[0] in packages for node in body for name in _named(node))


def within(name: str, packages: tuple[str, ...]) -> bool:
    """Whether a module is one of these packages or lies in one."""
    return any(name == package or name.startswith(f"{package}.") for package in packages)


def home() -> Path:
    """The folder that holds the code: the project's, or the one it is installed in."""
    here = root()
    return here if (here / "tidemill").is_dir() else Path(__file__).resolve().parent.parent.parent


def _parts(top: Path, name: str) -> list[Path]:
    """A module's file, and the `__init__` of each package that it lies in."""
    found: list[Path] = []
    folder = top
    for piece in name.split("."):
        module, folder = folder / f"{piece}.py", folder / piece
        package = folder / "__init__.py"
        if package.is_file():
            found += [] if top / "tasks" in (folder, folder.parent) else [package]
        elif module.is_file():
            return [*found, module]
        elif not folder.is_dir():  # a folder without `__init__` is a package too
            break
    return found


@lru_cache(maxsize=1024)
def _tree(path: Path, changed_ns: int) -> ast.Module:
    """A file as it stood when it was changed at `changed_ns`."""
    try:
        return ast.parse(path.read_bytes())
    except SyntaxError as error:
        raise Refused(f"{names([path])[0]}, line {error.lineno}: {error.msg}") from error


@lru_cache(maxsize=1024)
def _imports(path: Path, changed_ns: int) -> frozenset[str]:
    """The names in a file that may be modules of this project."""
    imported = {name for node in _statements(_tree(path, changed_ns)) for name in _named(node)}
    quoted = set(QUOTED.findall(path.read_text()))
    return frozenset(name for name in imported | quoted if name.split(".")[0] in TOPS)


def _statements(tree: ast.Module) -> Iterator[ast.AST]:
    """All statements of a file, also within functions, without what only a type checker reads."""
    left: list[ast.AST] = list(tree.body)
    while left:
        node = left.pop()
        yield node
        if not (isinstance(node, ast.If) and _only_types(node.test)):
            left += getattr(node, "body", [])
        for more in ("orelse", "finalbody", "handlers", "cases"):
            left += getattr(node, more, [])


def _only_types(test: ast.expr) -> bool:
    name = test.attr if isinstance(test, ast.Attribute) else getattr(test, "id", "")
    return name == "TYPE_CHECKING"


def _named(node: ast.AST) -> Iterator[str]:
    """The modules that an import statement may mean: in `from a import b`, a and a.b."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
        yield node.module
        yield from (f"{node.module}.{alias.name}" for alias in node.names)
