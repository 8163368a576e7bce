"""python -m benchmarks.house [--json] [FOLDER]: how the code reads, measured from its source alone.

Each figure stands beside its goal; `holds` says whether it is met. Nothing of the project is
imported, so that an older checkout can be measured by the same rules: give its FOLDER.
"""

import ast
import json
import sys
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CODE = ("tidemill", "tasks", "flows", "recipes")
ALL = (*CODE, "tests", "benchmarks")
Function = ast.FunctionDef | ast.AsyncFunctionDef
BRANCHES = (ast.If, ast.For, ast.AsyncFor, ast.While, ast.ExceptHandler, ast.match_case)
OWN = ("Data", "Net", "Fields", "Question", "Answer")
"""Class names that a recipe's folder has of its own: it is read alone."""
INNER = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda)
CONTRACT = ("Application", "Predictor", "Learner", "Recipe")


@dataclass(frozen=True)
class Figure:
    """One measured number: what it is, its goal (None: only told), and where it comes from."""

    name: str
    value: int | float | str
    goal: int | None = None
    where: str = ""

    @property
    def holds(self) -> bool | None:
        return None if self.goal is None else float(self.value) <= self.goal


def modules(root: Path, folders: tuple[str, ...]) -> Iterator[tuple[str, Path, ast.Module]]:
    """Each module's dotted name, its path and its syntax tree."""
    for folder in folders:
        for path in sorted((root / folder).rglob("*.py")):
            parts = path.relative_to(root).with_suffix("").parts
            name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
            yield name, path, ast.parse(path.read_text())


def functions(root: Path, folders: tuple[str, ...]) -> Iterator[tuple[str, Function]]:
    for name, _, tree in modules(root, folders):
        for node in ast.walk(tree):
            if isinstance(node, Function):
                yield f"{name}.{node.name}", node


def length(function: Function) -> int:
    """Lines of a function from its `def` to its end, without decorators."""
    assert function.end_lineno is not None
    return function.end_lineno - function.lineno + 1


def branches(function: Function) -> int:
    """Branches of a function's own statements; those of functions within it count there."""
    count, left = 0, list(ast.iter_child_nodes(function))
    while left:
        node = left.pop()
        if isinstance(node, INNER):
            continue
        count += isinstance(node, BRANCHES)
        left += ast.iter_child_nodes(node)
    return count


def room(module: str) -> str:
    """Where a module lives: a package of tidemill, an engine, a step, a recipe; else its top."""
    parts = module.split(".")
    depth = {"tidemill": 3 if parts[1:2] == ["engines"] else 2, "tasks": 2, "recipes": 2}
    return ".".join(parts[: depth.get(parts[0], 1)])


def imports(tree: ast.Module) -> Iterator[str]:
    """Own modules that a module imports, at its top or later."""
    for node in ast.walk(tree):
        names: list[str] = []
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        yield from (name for name in names if name.split(".")[0] in CODE)


def circles(arrows: dict[str, set[str]]) -> list[list[str]]:
    """Groups of nodes that reach each other."""

    def reached(start: str) -> set[str]:
        seen: set[str] = set()
        left = [start]
        while left:
            for target in arrows.get(left.pop(), set()) - seen:
                seen.add(target)
                left.append(target)
        return seen

    reach = {node: reached(node) for node in arrows}
    groups = {
        tuple(sorted(other for other in reach if node in reach[other] and other in reach[node]))
        for node in reach
        if node in reach[node]
    }
    return [list(group) for group in sorted(groups)]


def room_circles(root: Path) -> list[list[str]]:
    arrows: dict[str, set[str]] = defaultdict(set)
    for name, _, tree in modules(root, CODE):
        arrows[room(name)] |= {room(target) for target in imports(tree)} - {room(name)}
    return circles(arrows)


def file_circles(root: Path) -> list[list[str]]:
    """Circles between the files of one recipe."""
    names = {name for name, _, _ in modules(root, ("recipes",))}
    arrows: dict[str, set[str]] = defaultdict(set)
    for name, _, tree in modules(root, ("recipes",)):
        for target in imports(tree):
            module = target if target in names else target.rpartition(".")[0]
            if module in names and module != name and room(module) == room(name) != "recipes":
                arrows[name].add(module)
    return circles(arrows)


def twice_named(root: Path) -> dict[str, list[str]]:
    """Class names that stand for more than one thing, with their modules; `OWN` ones excepted."""
    where: dict[str, list[str]] = defaultdict(list)
    for name, _, tree in modules(root, CODE):
        for node in tree.body:
            exempt = name.startswith("recipes.") and getattr(node, "name", "") in OWN
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_") and not exempt:
                where[node.name].append(name)
    return {name: places for name, places in where.items() if len(places) > 1}


def members(root: Path) -> dict[str, int]:
    """Public members of each type of the contract."""
    path = root / "tidemill" / "contract.py"
    tree = ast.parse(path.read_text()) if path.is_file() else ast.Module([], [])
    counts = {}
    for node in tree.body:
        if isinstance(node, ast.ClassDef) and node.name in CONTRACT:
            names = {
                item.name if isinstance(item, Function) else getattr(item.target, "id", "")
                for item in node.body
                if isinstance(item, Function | ast.AnnAssign)
            }
            counts[node.name] = sum(not name.startswith("_") for name in names)
    return counts


def long_lines(root: Path) -> list[str]:
    return [
        f"{path.relative_to(root)}:{number}"
        for _, path, _ in modules(root, ALL)
        for number, line in enumerate(path.read_text().split("\n"), 1)
        if len(line) > 100
    ]


def lines(root: Path, folders: tuple[str, ...]) -> int:
    return sum(len(path.read_text().splitlines()) for _, path, _ in modules(root, folders))


def loose(root: Path) -> list[str]:
    """Modules beside the step folders of tasks/."""
    return [path.name for path in (root / "tasks").glob("*.py") if path.stem != "__init__"]


def thick_inits(root: Path) -> list[str]:
    return [
        f"{name} ({len(path.read_text().splitlines())})"
        for name, path, _ in modules(root, ("tasks", "tidemill"))
        if path.name == "__init__.py" and len(path.read_text().splitlines()) > 60
    ]


def structure(root: Path) -> list[Figure]:
    rooms, files, names = room_circles(root), file_circles(root), twice_named(root)
    beside, thick = loose(root), thick_inits(root)
    return [
        Figure("circles between rooms", len(rooms), 0, "; ".join(map(" ".join, rooms))),
        Figure("circles between files of a recipe", len(files), 0, "; ".join(map(" ".join, files))),
        Figure("modules beside the step folders of tasks/", len(beside), 0, " ".join(beside)),
        Figure("__init__ over 60 lines", len(thick), 0, " ".join(thick)),
        Figure("class names for two things", len(names), 0, " ".join(sorted(names))),
    ]


def reading(root: Path) -> list[Figure]:
    sized = sorted(((length(each), name) for name, each in functions(root, CODE)), reverse=True)
    forked = sorted(((branches(each), name) for name, each in functions(root, CODE)), reverse=True)
    loosely = [name for name, each in functions(root, CODE) if "dict[str, Any]" in _signature(each)]
    return [
        Figure("lines over 100 columns", len(over := long_lines(root)), 0, " ".join(over[:3])),
        Figure("lines of the longest function", *_most(sized, 40)),
        Figure("functions over 40 lines", sum(size > 40 for size, _ in sized), 0),
        Figure("branches of the most branching function", *_most(forked, 15)),
        Figure("functions with dict[str, Any]", len(loosely), 40),
        Figure("type: ignore in recipes", _ignores(root), 5),
    ]


def _most(ranked: list[tuple[int, str]], goal: int) -> tuple[int, int, str]:
    size, name = ranked[0]
    return size, goal, name


def _signature(function: Function) -> str:
    return f"{ast.unparse(function.args)} {ast.unparse(function.returns or ast.Constant(None))}"


def _ignores(root: Path) -> int:
    return sum(path.read_text().count("type: ignore") for _, path, _ in modules(root, ("recipes",)))


def sizes(root: Path) -> list[Figure]:
    contract = members(root)
    largest = max(contract.items(), key=lambda item: item[1], default=("", 0))
    recipes = sorted(path.name for path in (root / "recipes").iterdir() if path.is_dir())
    return [
        Figure("members of the largest contract type", largest[1], 12, largest[0]),
        *(
            Figure(f"lines of recipes/{name}", lines(root, (f"recipes/{name}",)))
            for name in recipes
            if not name.startswith("_")
        ),
        Figure("lines of code", lines(root, CODE)),
        Figure("lines of tests and benchmarks", lines(root, ("tests", "benchmarks"))),
    ]


def figures(root: Path) -> list[Figure]:
    return [*structure(root), *reading(root), *sizes(root)]


def main(arguments: list[str]) -> None:
    folders = [Path(each) for each in arguments if not each.startswith("-")]
    measured = figures(folders[0] if folders else ROOT)
    if "--json" in arguments:
        print(json.dumps([{**each.__dict__, "holds": each.holds} for each in measured], indent=1))
        return
    for each in measured:
        goal = "" if each.goal is None else f"at most {each.goal}: {'yes' if each.holds else 'NO'}"
        print(f"{each.name:44} {each.value!s:>8}  {goal:16} {each.where[:90]}")


if __name__ == "__main__":
    main(sys.argv[1:])
