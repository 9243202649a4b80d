"""YAML that is edited as text: a value is found by its position and replaced, and every other character stays as it is.

Loading and dumping would drop comments and flow style, and turn `version: 1.10` into `1.1`. What an edit has made is read again and compared with
what it was meant to say, so a layout that is not understood is refused, never damaged.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from pytest_gpueval.errors import DataError, MissingExtra

Path = tuple[str | int, ...]
Node = Any  # yaml.Node, whose attributes depend on its kind

# What a card may grow to once its aliases are written out: those of a few lines can stand for more values than a machine holds.
_MOST_VALUES = 1_000_000
_LINE_BREAK = re.compile(r"\r\n|\n|\r")
# What precedes the first key of a mapping on its line: indentation, and dashes where the mapping is an item of a list.
_BEFORE_KEY = re.compile(r"[ -]*")


class Document:
    """The YAML document in `text[start:end]`; `where` names the file in errors. `data` is what it says."""

    def __init__(self, text: str, start: int, end: int, where: str) -> None:
        """Raises DataError, with the line in `text`, for what is not one YAML document or has a key twice."""
        self.text, self.start, self.end, self.where = text, start, end, where
        self.newline = newline_of(text)
        self.root, self.data = self._load()

    def fail(self, path: Path, message: str) -> DataError:
        """An error about what stands at `path`, or, where nothing does, about what it would stand in."""
        position = self.start
        for depth in range(len(path), -1, -1):
            try:
                position = self.start + self.slot(path[:depth])[1]
                break
            except LookupError:
                continue
        return self._error(position, message)

    def slot(self, path: Path) -> tuple[Node, int, int]:
        """The node at `path`, and where its text starts and ends in the document. Raises KeyError where the text has none."""
        if self.root is None:
            raise KeyError(path)
        node: Node = self.root
        start, end = node.start_mark.index, self._end(node)
        for step in path:
            index, child = self._child(node, step)
            start, end = self._span(node, index, child)
            node = child
        return node, start, end

    def shared(self, path: Path) -> bool:
        """Whether what stands at `path`, or what it stands in, has an alias elsewhere: a change would show up there too."""
        return any(id(self.slot(path[:depth])[0]) in self._loader.shared for depth in range(len(path) + 1))

    def flow(self, path: Path) -> bool:
        """Whether the collection at `path` is written in brackets."""
        return bool(getattr(self.slot(path)[0], "flow_style", False))

    def keys(self, path: Path) -> list[Node]:
        """The keys that the mapping at `path` has in its own text."""
        return [key for key, _ in self.slot(path)[0].value]

    def dash(self, position: int) -> int:
        """Where the dash of the list item that starts at `position` stands."""
        return max(int(dash) for dash in self._loader.dashes if dash < position)

    def _child(self, node: Node, step: str | int) -> tuple[Any, Node]:
        if isinstance(step, int) and isinstance(node.value, list):
            return step, node.value[step]
        for key, value in node.value if node.id == "mapping" else ():
            if key.value == step:
                return key, value
        raise KeyError(step)

    def _span(self, parent: Node, index: Any, child: Node) -> tuple[int, int]:
        alias = self._loader.aliases.get((id(parent), index))
        return alias or (child.start_mark.index, self._end(child))

    def _end(self, node: Node) -> int:
        """Where the text of a node ends. PyYAML has a block collection end where the next thing starts, behind blank lines and comments."""
        if not isinstance(node.value, list) or node.flow_style:
            return int(node.end_mark.index)
        index, child = node.value[-1] if node.id == "mapping" else (len(node.value) - 1, node.value[-1])
        return self._span(node, index, child)[1]

    def _load(self) -> tuple[Node | None, Any]:
        """The root node (None if there is none) and what it says. Raises DataError."""
        yaml = import_yaml()
        try:
            self._loader = _loader_class()(self.text[self.start : self.end])
            root = self._loader.get_single_node()
            if root is None:
                return None, None
            self._check(root, {})
            return root, self._loader.construct_whole(root)
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            raise self._error(self.start + (mark.index if mark else 0), f"the YAML is broken: {_one_line(error.problem or error)}") from None
        except yaml.reader.ReaderError as error:
            raise self._error(self.start + error.position, f"the YAML is broken: the character U+{int(error.character):04X} is not allowed") from None
        except RecursionError:
            raise self._error(self.start, "the YAML is nested too deeply") from None

    def _check(self, node: Node, sizes: dict[int, int]) -> int:
        """How many values a node stands for, aliases written out. Raises DataError for a key that is there twice, and for too much."""
        known = sizes.get(id(node))
        if known == 0:
            raise self._error(self.start + node.start_mark.index, "the YAML contains itself")
        if known:
            return known
        sizes[id(node)] = 0
        size, seen = 1, set()
        for child in node.value if isinstance(node.value, list) else ():
            if isinstance(child, tuple):
                key = child[0]
                if isinstance(key.value, str) and (key.tag, key.value) in seen:
                    raise self._error(self.start + key.start_mark.index, f"the key {key.value!r} is there twice")
                seen.add((key.tag, key.value) if isinstance(key.value, str) else id(key))
            size += sum(self._check(part, sizes) for part in (child if isinstance(child, tuple) else (child,)))
        if size > _MOST_VALUES:
            raise self._error(self.start + node.start_mark.index, f"the YAML's aliases stand for more than {_MOST_VALUES:,} values")
        sizes[id(node)] = size
        return size

    def _error(self, position: int, message: str) -> DataError:
        return DataError(f"{self.where}:{line_of(self.text, position)}: {message}")


class Edit:
    """Changes to one document, made together by `text`. `data` is what the document is to say. Insertions into one place keep the order of the calls."""

    def __init__(self, document: Document) -> None:
        self.document = document
        self.data: Any = _copy(document.data)
        self._splices: list[tuple[int, int, str]] = []

    def put(self, path: Path, key: str, value: Any) -> None:
        """Let the mapping at `path` (the document itself may still be empty) have `value`, a number where there is one already. Raises DataError."""
        owner = self._at(path)
        if owner is None:
            self._root(key, value)
        elif key in owner and type(owner[key]) is type(value) and owner[key] == value:
            return
        elif key not in owner:
            self._insert(path, key, value)
        elif owner[key] is None and isinstance(value, list | dict):
            self._fill(path, key, value)
        else:
            self._replace((*path, key), value)
        if owner is not None:
            owner[key] = value

    def append(self, path: Path, value: Any) -> None:
        """Add an item to the list at `path`, laid out as its last one. Raises DataError."""
        doc = self.document
        node, _, end = self._own(path)
        items: list[Any] = self._at(path)
        if doc.flow(path):
            written = len(node.value)  # of the items, some may be only about to be
            self._splice(doc.slot((*path, written - 1))[2] if written else end - 1, 0, (", " if items else "") + _flow(value))
        else:
            last = (*path, len(node.value) - 1)
            _, start, end = doc.slot(last)
            dash = doc.dash(start)
            gap = start - dash if 2 <= start - dash <= 8 and not _LINE_BREAK.search(self._piece(dash, start)) else 2
            column = self._column(dash)
            lines = [_flow(value)] if doc.flow(last) else _block(value)
            self._lines(end, [" " * column + ("-" + " " * (gap - 1) if number == 0 else " " * gap) + line for number, line in enumerate(lines)])
        items.append(value)

    def remove(self, path: Path, index: int) -> None:
        """Take an item off the list at `path`, with its lines. Raises DataError."""
        doc = self.document
        self._own(path)
        items: list[Any] = self._at(path)
        _, start, end = doc.slot((*path, index))
        if not doc.flow(path):
            dash = doc.dash(start)
            start = dash - self._column(dash)
            end = self._line_end(end)
        elif index + 1 < len(items):
            end = doc.slot((*path, index + 1))[1]
        elif index:
            start = doc.slot((*path, index - 1))[2]
        self._splice(start, end - start, "")
        del items[index]

    def make_list(self, path: Path, key: str, name: str, value: Any) -> None:
        """Make the mapping at `path` the first item of a list whose second is `value`; the first says `key: name`, if it does not yet. Raises DataError."""
        doc = self.document
        _, start, end = self._own(path)
        mapping = self._at(path)
        first = {} if key in mapping else {key: name}
        if doc.flow(path):
            said = "".join(f"{_flow({key: name})[1:-1]}, " for _ in first)
            self._splice(start, 1, "[{" + said)
            self._splice(end, 0, f", {_flow(value)}]")
        else:
            column = self._key_column(path)
            start = doc.keys(path)[0].start_mark.index
            if column < 2 or self._piece(start - 2, start) != "  ":
                raise doc.fail(path, f"this mapping would have to become a list. Write it as one, with `- {key}: ...` for each.")
            said = "".join(f"{line}{doc.newline}{' ' * column}" for _ in first for line in _block(first))
            self._splice(start - 2, 2, f"- {said}")
            self._lines(end, [" " * (column - 2) + ("- " if number == 0 else "  ") + line for number, line in enumerate(_block(value))])
        self._at(path[:-1])[path[-1]] = [{**first, **mapping}, value]

    def text(self) -> str:
        """The text with the changes made. Raises DataError where it would not say what it is to say."""
        doc = self.document
        if not self._splices:
            return doc.text
        parts, position = [], 0
        for start, length, new in sorted(self._splices, key=lambda splice: splice[0]):
            if start < position:
                raise self._refused()
            parts += [doc.text[position:start], new]
            position = start + length
        text = "".join([*parts, doc.text[position:]])
        try:
            after = Document(text, doc.start, doc.end + len(text) - len(doc.text), doc.where)
        except DataError:
            raise self._refused() from None
        if not _same(after.data, self.data):
            raise self._refused()
        return text

    def _refused(self) -> DataError:
        """An error about the first change, with what the document should say."""
        line = line_of(self.document.text, min(splice[0] for splice in self._splices))
        return DataError(
            f"{self.document.where}:{line}: this layout cannot be edited in place. Write it as a plain block (`key: value`, one a line), then try again."
        )

    def _at(self, path: Path) -> Any:
        found = self.data
        for step in path:
            found = found[step]
        return found

    def _own(self, path: Path) -> tuple[Node, int, int]:
        """The node at `path` with its place, if it may be changed. Raises DataError."""
        try:
            if self.document.shared(path):
                raise self.document.fail(path, f"{_spoken(path)} is shared by an alias (`*name`). Write it out where it is used, then try again.")
            return self.document.slot(path)
        except LookupError:
            raise self.document.fail(path, f"{_spoken(path)} comes from a merge key (`<<`). Write it out, then try again.") from None

    def _replace(self, path: Path, value: Any) -> None:
        _, start, end = self._own(path)
        while end > start and self._piece(end - 1, end) in ("\r", "\n"):  # a text block ends behind its line
            end -= 1
        gap = "" if end > start or self._piece(start - 1, start) == " " else " "
        self._splice(start, end - start, gap + _flow(value))

    def _root(self, key: str, value: Any) -> None:
        """Let a document that says nothing say this."""
        doc = self.document
        if doc.root is not None:
            _, start, end = doc.slot(())
            self._splice(start, end - start, "")
        self._lines(doc.end - doc.start, _block({key: value}))
        self.data = {key: value}

    def _insert(self, path: Path, key: str, value: Any) -> None:
        doc = self.document
        node, _, end = self._own(path)
        if not doc.flow(path):
            column = self._key_column(path)
            self._lines(end, [" " * column + line for line in _block({key: value})])
            return
        position = doc.slot((*path, node.value[-1][0].value))[2] if node.value else end - 1
        self._splice(position, 0, (", " if self._at(path) else "") + _flow({key: value})[1:-1])

    def _fill(self, path: Path, key: str, value: Any) -> None:
        """Write a collection where the key has no value yet."""
        if self.document.flow(path):
            self._replace((*path, key), value)
            return
        _, start, end = self._own((*path, key))
        while self._piece(start - 1, start) == " ":
            start -= 1
        self._splice(start, end - start, "")
        indent = self._key_column(path) + (2 if isinstance(value, dict) else 0)
        self._lines(end, [" " * indent + line for line in _block(value)])

    def _key_column(self, path: Path) -> int:
        start = self.document.keys(path)[0].start_mark.index
        column = self._column(start)
        if not _BEFORE_KEY.fullmatch(self._piece(start - column, start)):
            raise self.document.fail(
                path, f"{_spoken(path)} is laid out in a way that cannot be edited in place. Write one `key: value` a line, then try again."
            )
        return column

    def _column(self, position: int) -> int:
        before = self._piece(0, position)
        return position - max(before.rfind("\n"), before.rfind("\r")) - 1

    def _line_end(self, position: int) -> int:
        """The start of the line after the one that `position` is in; `position` itself at the start of a line, where text blocks end."""
        if position and self._piece(position - 1, position) in ("\r", "\n"):
            return position
        found = _LINE_BREAK.search(self.document.text, self.document.start + position, self.document.end)
        return found.end() - self.document.start if found else self.document.end - self.document.start

    def _lines(self, position: int, lines: Sequence[str]) -> None:
        """Insert lines after the one that `position` is in."""
        newline = self.document.newline
        position = self._line_end(position)
        open_line = position > 0 and self._piece(position - 1, position) not in ("\r", "\n")
        text = newline.join(lines)
        self._splice(position, 0, newline + text if open_line else text + newline)

    def _piece(self, start: int, end: int) -> str:
        return self.document.text[self.document.start + max(start, 0) : self.document.start + end]

    def _splice(self, start: int, length: int, new: str) -> None:
        self._splices.append((self.document.start + start, length, new))


def newline_of(text: str) -> str:
    """How the first line of a text ends."""
    found = _LINE_BREAK.search(text)
    return found[0] if found else "\n"


def line_of(text: str, position: int) -> int:
    """The number of the line, from 1, that `position` is in."""
    return sum(1 for _ in _LINE_BREAK.finditer(text, 0, position)) + 1


def import_yaml() -> Any:
    """PyYAML. Raises MissingExtra."""
    try:
        import yaml
    except ImportError:
        raise MissingExtra("pyyaml", needed_for="reading a dataset's card", extra="hub") from None
    return yaml


@cache
def _loader_class() -> Any:
    """PyYAML's safe loader, which also tells where dashes and aliases stand."""
    yaml = import_yaml()

    class Loader(yaml.SafeLoader):  # type: ignore[name-defined, misc]
        def __init__(self, text: str) -> None:
            super().__init__(text)
            self.dashes: list[int] = []
            self.aliases: dict[tuple[int, Any], tuple[int, int]] = {}
            self.shared: set[int] = set()
            self._written: dict[Any, list[Any]] = {}

        def fetch_block_entry(self) -> None:
            self.dashes.append(self.index)
            super().fetch_block_entry()

        def compose_node(self, parent: Any, index: Any) -> Any:
            event = self.peek_event()
            node = super().compose_node(parent, index)
            if isinstance(event, yaml.AliasEvent):
                self.aliases[id(parent), index] = event.start_mark.index, event.end_mark.index
                self.shared.add(id(node))
            return node

        def construct_whole(self, root: Any) -> Any:
            """What the nodes say; the nodes stay as they were written."""
            try:
                return self.construct_document(root)
            finally:
                for node, value in self._written.items():
                    node.value = value

        def flatten_mapping(self, node: Any) -> None:
            """Merge keys are written into the node; what it was is kept."""
            self._written.setdefault(node, list(node.value))
            super().flatten_mapping(node)

        def construct_object(self, node: Any, deep: bool = False) -> Any:
            try:
                return super().construct_object(node, deep=deep)
            except (ValueError, LookupError, TypeError, AttributeError) as error:  # what PyYAML's constructors let out, as for a date of month 13
                raise yaml.constructor.ConstructorError(None, None, f"{str(node.value)[:40]!r} cannot be read: {error}", node.start_mark) from None

    return Loader


def _flow(value: Any) -> str:
    """A value on one line, as it can stand anywhere."""
    return str(import_yaml().safe_dump([value], default_flow_style=True, allow_unicode=True, sort_keys=False, width=float("inf"))).rstrip("\n")[1:-1]


def _block(value: Any) -> list[str]:
    """The lines of a collection, laid out as the Hub's own tools do."""
    return str(import_yaml().safe_dump(value, default_flow_style=False, allow_unicode=True, sort_keys=False, width=float("inf"))).splitlines()


def _copy(data: Any) -> Any:
    """The same data, where nothing is shared."""
    if isinstance(data, Mapping):
        return {key: _copy(value) for key, value in data.items()}
    return [_copy(item) for item in data] if isinstance(data, list) else data


def _same(one: Any, other: Any) -> bool:
    """Whether both say the same, in the same order and types."""
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        return list(one) == list(other) and all(_same(value, other[key]) for key, value in one.items())
    if isinstance(one, list):
        return len(one) == len(other) and all(map(_same, one, other))
    return bool(one == other or (one != one and other != other))


def _spoken(path: Path) -> str:
    return ".".join(map(str, path)) or "the front matter"


def _one_line(message: object) -> str:
    return " ".join(str(message).split())[:200]
