"""The key of a training: a hash of everything that decides its numbers, and of nothing else.

A description (a frozen dataclass) is written out field by field. A function that a description names is written out as its code,
without comments, docstrings and the names of its local variables, and with the code of the functions of this project that it calls.
A network is written out as the configuration of its built layers. So an edited constant, range or layer makes another key, and a
reworded comment or a renamed local variable doesn't.
"""

import ast
import dataclasses
import functools
import hashlib
import inspect
import json
import textwrap
import types

OUR_PACKAGES = ("xraygan", "utils")  # code of these is followed; code of libraries is known by its name


def digest(content, length=8):
    """A short hash of anything that JSON can hold."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:length]


def describe(value):
    """Write a value out as JSON holds it: dataclasses by their fields, functions by their code.

    A field whose metadata says `{"key": False}`, such as the words that explain an arm, is left out.
    """
    if dataclasses.is_dataclass(value):
        fields = [field for field in dataclasses.fields(value) if field.metadata.get("key", True)]
        return {field.name: describe(getattr(value, field.name)) for field in fields}
    if isinstance(value, dict):
        return {str(name): describe(entry) for name, entry in value.items()}
    if isinstance(value, list | tuple):
        return [describe(entry) for entry in value]
    if callable(value):
        return digest(describe_code(value), 16)
    return value


@functools.lru_cache
def describe_code(function, _callers=()):
    """The code of a function or class as text in which only what it computes can be seen.

    Names of this project's functions are replaced by a hash of their code, names of its constants by their value.
    """
    tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    known = inspect.getmodule(function)
    if function in _callers:
        return "itself"
    canonical = _Canonical(known, (*_callers, function)).visit(_without_docstrings(tree))
    return _write(canonical.body[0], skip=("name", "decorator_list", "returns", "annotation"))


@functools.lru_cache
def describe_network(build, *arguments):
    """A hash of the network that `build(*arguments, next_seed)` gives, whatever its code looks like."""
    return digest(write_network(build(*arguments, lambda: 0)), 16)


def write_network(model):
    """The configuration of a built Keras model, its layers numbered instead of named and nothing that is None."""
    number_of = {layer.name: f"layer {number}" for number, layer in enumerate(model.layers)} | {model.name: "model"}

    def renamed(value):
        if isinstance(value, dict):
            return {key: renamed(entry) for key, entry in value.items() if entry is not None}
        if isinstance(value, list | tuple):
            return [renamed(entry) for entry in value]
        return number_of.get(value, value) if isinstance(value, str) else value

    return json.loads(json.dumps(renamed(model.get_config()), default=str))


class _Canonical(ast.NodeTransformer):
    """Renames local variables in order of appearance and resolves this project's functions and constants."""

    def __init__(self, module, callers):
        self.module, self.callers, self.local_names = module, callers, {}

    def visit_FunctionDef(self, node):
        names = [argument.arg for argument in ast.walk(node.args) if isinstance(argument, ast.arg)]
        stored = [part.id for part in ast.walk(node) if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Store)]
        for name in [*names, *stored]:
            self.local_names.setdefault(name, f"local {len(self.local_names)}")
        return self.generic_visit(node)

    def visit_arg(self, node):
        node.arg, node.annotation = self.local_names.get(node.arg, node.arg), None
        return node

    def visit_Lambda(self, node):
        for argument in ast.walk(node.args):
            if isinstance(argument, ast.arg):
                self.local_names.setdefault(argument.arg, f"local {len(self.local_names)}")
        return self.generic_visit(node)

    def visit_Name(self, node):
        if node.id in self.local_names:
            return ast.Constant(self.local_names[node.id])
        return self._resolved(node, getattr(self.module, node.id, None))

    def visit_Attribute(self, node):
        owner = getattr(self.module, node.value.id, None) if isinstance(node.value, ast.Name) else None
        if isinstance(owner, types.ModuleType) and owner.__name__.startswith(OUR_PACKAGES):
            return self._resolved(node, getattr(owner, node.attr, None))
        return self.generic_visit(node)

    def _resolved(self, node, value):
        if isinstance(value, int | float | str | tuple) and not isinstance(value, types.ModuleType):
            return ast.Constant(repr(value))
        if isinstance(value, types.FunctionType) and value.__module__.startswith(OUR_PACKAGES):
            return ast.Constant(digest(describe_code(value, self.callers)))
        return node


def _without_docstrings(tree):
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list) and body and isinstance(body[0], ast.Expr) and isinstance(body[0].value, ast.Constant):
            node.body = body[1:] or [ast.Pass()]
    return tree


def _write(node, skip):
    """A syntax tree as text that is the same in every version of Python: empty fields left out."""
    if isinstance(node, ast.AST):
        fields = [f"{name}={_write(value, skip)}" for name, value in ast.iter_fields(node) if name not in skip and value not in (None, [])]
        return f"{type(node).__name__}({', '.join(fields)})"
    if isinstance(node, list):
        return f"[{', '.join(_write(entry, skip) for entry in node)}]"
    return repr(node)
