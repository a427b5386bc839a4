# SPDX-License-Identifier: Apache-2.0
"""Finds the small changes that can be made in C++ code: what stands where, and what would stand there instead.

Each change is an expression or a statement that is written down twice, as it is and changed, with a switch between the two
(`mutant.h`). So only what compiles as an expression of the same type can be changed; what does not compile is dropped later.
"""

from __future__ import annotations

import dataclasses
import json
import pathlib
import re
import shlex
import typing

import clang.cindex
from clang.cindex import CursorKind, TokenKind

KINDS = {
    "comparison": "< for <=, == for !=",
    "logic": "&& for ||",
    "arithmetic": "+ for -, * for /",
    "bound": "std::min for std::max, std::clamp left out",
    "condition": "the condition of an if is false",
    "statement": "a call or a compound assignment is left out",
    "constant": "a named constant or a member's default is doubled",
    "number": "a number in an expression is doubled",
}
OTHER = {"<": "<=", "<=": "<", ">": ">=", ">=": ">", "==": "!=", "!=": "==", "&&": "||", "||": "&&", "+": "-", "-": "+", "*": "/", "/": "*"}
NUMBER_TYPES = ("Bytes",)  # classes that are numbers: what their operators do is changed, too
FUNCTIONS = (CursorKind.FUNCTION_DECL, CursorKind.CXX_METHOD, CursorKind.CONSTRUCTOR, CursorKind.DESTRUCTOR, CursorKind.FUNCTION_TEMPLATE,
             CursorKind.CONVERSION_FUNCTION, CursorKind.LAMBDA_EXPR)
# What must be known when compiling, or names things rather than does them.
CLOSED = (CursorKind.CASE_STMT, CursorKind.STATIC_ASSERT, CursorKind.ENUM_DECL, CursorKind.TEMPLATE_TYPE_PARAMETER, CursorKind.TEMPLATE_NON_TYPE_PARAMETER)
NUMBER = re.compile(r"^(0x[0-9A-Fa-f']+|[0-9][0-9']*)([uUlL]*)$|^[0-9']+\.[0-9]*$")


@dataclasses.dataclass(frozen=True)
class Change:
    file: str
    line: int
    start: int  # offsets in the file, in bytes
    end: int
    kind: str
    before: str
    after: str
    code: str  # what is written in its place; @ stands for the number of the change

    @property
    def words(self) -> str:
        return f"{shorten(self.before)} -> {shorten(self.after)}"


def shorten(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= 60 else text[:57] + "..."


def is_number_type(type_: typing.Any) -> bool:
    return re.sub(r"^const |[\w:]*::| &+$", "", type_.get_canonical().spelling) in NUMBER_TYPES


def is_operator_of_number_type(cursor: typing.Any) -> bool:
    """Whether it is a call of one of their operators of two: the operands, and between them the name of the operator."""
    return cursor.kind == CursorKind.CALL_EXPR and cursor.spelling.startswith("operator") and len(list(cursor.get_children())) == 3 \
        and any(is_number_type(each.type) for each in cursor.get_arguments())


def arguments_of(entry: dict[str, typing.Any]) -> list[str]:
    """The compiler's arguments of a file, as libclang wants them: without the compiler, the file and GCC's precompiled headers."""
    words = shlex.split(entry["command"])[1:]
    kept, skip = [], False
    for at, word in enumerate(words):
        if skip:
            skip = False
        elif word in ("-o", "-c"):
            skip = word == "-o"
        elif word == "-include" and "cmake_pch" in words[at + 1]:
            skip = True
        elif not word.endswith(".cc") and not word.startswith(("-Winvalid-pch", "-fconcepts", "-W")):
            kept.append(word)
    return kept


class File:
    """One file's text, and the changes that were found in it."""

    def __init__(self, path: pathlib.Path, name: str) -> None:
        self.name = name
        self.text = path.read_bytes()
        self.changes: dict[tuple[int, int, str], Change] = {}

    def add(self, cursor_or_range: typing.Any, kind: str, after: str, code: str) -> None:
        start, end = cursor_or_range.start.offset, cursor_or_range.end.offset
        before = self.slice(start, end)
        if "//" in before or "/*" in before or "#" in before:
            return  # a comment or a directive cannot be written twice on one line
        change = Change(self.name, cursor_or_range.start.line, start, end, kind, before, after, code)
        self.changes.setdefault((start, end, kind), change)

    def slice(self, start: int, end: int) -> str:
        return self.text[start:end].decode(errors="replace")


class Finder:
    def __init__(self, root: pathlib.Path, directories: list[str]) -> None:
        self.root = root
        self.directories = directories
        self.files: dict[str, File] = {}
        self.known: dict[str, File | None] = {}  # by the name that the compiler has for it
        self.walked: set[str] = set()
        self.macros: dict[str, list[tuple[int, int]]] = {}

    def look_at(self, entry: dict[str, typing.Any], index: clang.cindex.Index) -> None:
        unit = index.parse(entry["file"], arguments_of(entry), options=clang.cindex.TranslationUnit.PARSE_DETAILED_PROCESSING_RECORD)
        wrong = [each for each in unit.diagnostics if each.severity >= clang.cindex.Diagnostic.Fatal]
        if wrong:
            raise SystemExit(f"mutate: {entry['file']} cannot be read: {wrong[0]}")
        ours = [(cursor, file) for cursor in unit.cursor.get_children() if (file := self.file_of(cursor)) and file.name not in self.walked]
        for cursor, file in ours:
            if cursor.kind == CursorKind.MACRO_INSTANTIATION:
                self.macros.setdefault(file.name, []).append((cursor.extent.start.offset, cursor.extent.end.offset))
        for cursor, _ in ours:
            if not cursor.kind.is_preprocessing():
                self.walk(cursor, None, False)
        self.walked |= {file.name for _, file in ours}  # a header is read once, where it is met first

    def file_of(self, cursor: typing.Any) -> File | None:
        where = cursor.location.file
        if where is None:
            return None
        if where.name not in self.known:
            self.known[where.name] = self.open(pathlib.Path(where.name).resolve())
        return self.known[where.name]

    def open(self, path: pathlib.Path) -> File | None:
        if not path.is_relative_to(self.root):
            return None
        name = str(path.relative_to(self.root))
        if not any(name == each or name.startswith(each.rstrip("/") + "/") for each in self.directories):
            return None
        return self.files.setdefault(name, File(path, name))

    def in_macro(self, file: File, cursor: typing.Any) -> bool:
        start, end = cursor.extent.start.offset, cursor.extent.end.offset
        return end <= start or any(a < end and start < b for a, b in self.macros.get(file.name, []))

    def walk(self, cursor: typing.Any, parent: typing.Any, inside: bool) -> None:
        if cursor.kind in CLOSED:
            if cursor.kind == CursorKind.CASE_STMT:  # the label is closed, what follows is not
                for child in list(cursor.get_children())[1:]:
                    self.walk(child, cursor, inside)
            return
        if cursor.kind in FUNCTIONS:
            first = {token.spelling for _, token in zip(range(6), cursor.get_tokens())}
            if first & {"constexpr", "consteval"}:
                return
            inside = True
        file = self.file_of(cursor)
        if file and not self.in_macro(file, cursor):
            self.look(file, cursor, parent, inside)
        if cursor.kind == CursorKind.VAR_DECL and "constexpr" in self.words_before(cursor):
            return
        for child in cursor.get_children():
            self.walk(child, cursor, inside)

    @staticmethod
    def words_before(cursor: typing.Any) -> set[str]:
        return {token.spelling for _, token in zip(range(4), cursor.get_tokens())}

    def look(self, file: File, cursor: typing.Any, parent: typing.Any, inside: bool) -> None:
        kind = cursor.kind
        text = file.slice(cursor.extent.start.offset, cursor.extent.end.offset)
        if kind in (CursorKind.VAR_DECL, CursorKind.FIELD_DECL):
            self.constant(file, cursor, inside)
        if not inside:
            return
        if kind == CursorKind.BINARY_OPERATOR:
            if parent is None or parent.kind != CursorKind.FOR_STMT:  # one step more reads past an end: undefined, not noticed
                self.operator(file, cursor)
        elif is_operator_of_number_type(cursor):
            self.operator(file, cursor)
        elif kind == CursorKind.IF_STMT:
            self.condition(file, cursor)
        elif kind == CursorKind.CALL_EXPR and text.startswith(("std::min(", "std::max(")):
            other = ("std::max" if text.startswith("std::min") else "std::min") + text[8:]
            file.add(cursor.extent, "bound", other, f"(MUTANT(@) ? ({other}) : ({text}))")
        elif kind == CursorKind.CALL_EXPR and text.startswith("std::clamp("):
            value = list(cursor.get_arguments())[0].extent
            first = file.slice(value.start.offset, value.end.offset)
            file.add(cursor.extent, "bound", first, f"(MUTANT(@) ? ({first}) : ({text}))")
        elif kind in (CursorKind.INTEGER_LITERAL, CursorKind.FLOATING_LITERAL) and NUMBER.match(text) and not re.fullmatch(r"0x0|0[uUlL]*|0?\.0*", text):
            if parent is None or parent.kind not in (CursorKind.VAR_DECL, CursorKind.FIELD_DECL, CursorKind.TYPE_REF, CursorKind.DECL_REF_EXPR):
                file.add(cursor.extent, "number", f"2 * {text}", f"(MUTANT(@) ? 2 * {text} : {text})")
        if parent is not None and parent.kind in (CursorKind.COMPOUND_STMT, CursorKind.IF_STMT, CursorKind.FOR_STMT, CursorKind.CXX_FOR_RANGE_STMT):
            self.statement(file, cursor, parent, text)

    def operator(self, file: File, cursor: typing.Any) -> None:
        children = list(cursor.get_children())
        left, right = children[0], children[-1]
        between = [token for token in cursor.get_tokens()
                   if token.kind == TokenKind.PUNCTUATION and left.extent.end.offset <= token.extent.start.offset < right.extent.start.offset]
        if len(between) != 1 or between[0].spelling not in OTHER:
            return
        sign = between[0].spelling
        other = OTHER[sign]
        kind = "logic" if sign in ("&&", "||") else "arithmetic" if sign in "+-*/" else "comparison"
        a = file.slice(cursor.extent.start.offset, left.extent.end.offset)
        b = file.slice(right.extent.start.offset, cursor.extent.end.offset)
        if kind == "arithmetic" and '"' in a + b:
            return  # words put together
        file.add(cursor.extent, kind, f"{a} {other} {b}", f"(MUTANT(@) ? ({a} {other} {b}) : ({a} {sign} {b}))")

    def condition(self, file: File, cursor: typing.Any) -> None:
        children = [each for each in cursor.get_children() if each.kind not in (CursorKind.DECL_STMT, CursorKind.VAR_DECL)]
        if len(children) < 2 or children[0].kind == CursorKind.COMPOUND_STMT or "constexpr" in self.words_before(cursor):
            return
        if any(each.kind in (CursorKind.DECL_STMT, CursorKind.VAR_DECL) for each in cursor.get_children()):
            return  # if (auto x = ...): there is more to it than a condition
        extent = children[0].extent
        text = file.slice(extent.start.offset, extent.end.offset)
        file.add(extent, "condition", "false", f"(!MUTANT(@) && ({text}))")

    def statement(self, file: File, cursor: typing.Any, parent: typing.Any, text: str) -> None:
        if parent.kind == CursorKind.IF_STMT and cursor == list(parent.get_children())[0]:
            return
        if parent.kind in (CursorKind.FOR_STMT, CursorKind.CXX_FOR_RANGE_STMT) and cursor != list(parent.get_children())[-1]:
            return
        done = cursor
        while done.kind == CursorKind.UNEXPOSED_EXPR and len(inner := list(done.get_children())) == 1:  # it has temporaries
            done = inner[0]
        assigns = done.kind == CursorKind.COMPOUND_ASSIGNMENT_OPERATOR or (done.kind == CursorKind.BINARY_OPERATOR and re.search(r"[^=!<>]=[^=]", text))
        assigns = assigns or (done.kind == CursorKind.UNARY_OPERATOR and ("++" in text or "--" in text))
        assigns = assigns or (is_operator_of_number_type(done) and re.fullmatch(r"operator[-+*/]?=", done.spelling))
        calls = cursor.kind == CursorKind.CALL_EXPR and "(" in text and not re.match(r"(log::|spdlog|std::move|static_cast)|.*\.reserve\(", text)
        if assigns or calls:
            file.add(cursor.extent, "statement", "(left out)", f"if (!MUTANT(@)) {text}")

    def constant(self, file: File, cursor: typing.Any, inside: bool) -> None:
        text = file.slice(cursor.extent.start.offset, cursor.extent.end.offset)
        match = re.fullmatch(r"(?P<before>(?:inline |static )*)(?P<constexpr>constexpr )?(?P<type>[\w:<>, ]+ )(?P<name>\w+) ?= ?(?P<value>[^{}\"]+)", text)
        if match is None or match["type"].strip() in ("bool", "auto", "const bool"):
            return
        if cursor.kind == CursorKind.VAR_DECL and match["constexpr"] is None:
            return
        if not re.search(r"[0-9]|k[A-Z]", match["value"]) or re.fullmatch(r"[0.uUlL']+", match["value"].strip()):
            return
        const = "const " if match["constexpr"] else ""
        storage = match["before"] if not inside else ""
        if "static" in storage and cursor.semantic_parent.kind in (CursorKind.CLASS_DECL, CursorKind.STRUCT_DECL):
            storage = "static inline "
        value = match["value"].strip()
        file.add(cursor.extent, "constant", f"{match['name']} = 2 * ({value})",
                 f"{storage}{const}{match['type']}{match['name']} = MUTANT(@) ? 2 * ({value}) : ({value})")


def find(root: pathlib.Path, database: pathlib.Path, directories: list[str]) -> list[Change]:
    """All changes that could be made in the files of `directories` that are compiled, and in their headers there."""
    finder = Finder(root, directories)
    index = clang.cindex.Index.create()
    entries = [entry for entry in json.loads(database.read_text())
               if any(str(pathlib.Path(entry["file"]).resolve().relative_to(root)).startswith(each) for each in directories
                      if pathlib.Path(entry["file"]).resolve().is_relative_to(root))]
    if not entries:
        raise SystemExit(f"mutate: nothing in {', '.join(directories)} is compiled")
    for number, entry in enumerate(entries, 1):
        print(f"\rmutate: reading file {number} of {len(entries)}", end="", flush=True)
        finder.look_at(entry, index)
    print()
    return [change for name in sorted(finder.files) for change in finder.files[name].changes.values()]
