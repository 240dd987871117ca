"""The key of a training: a hash of everything that decides its numbers, and of nothing else.

A description (a frozen dataclass) is written out field by field. A function that a description names is written out as its code,
without comments, docstrings, messages and the names of its local variables, and with the code of the functions, classes and constants
of this project that it uses. A network is written out as the configuration of its built layers. So an edited constant, range or layer
makes another key, and a reworded comment or a renamed local variable doesn't.

What a library does is known by its name alone: a run's record says which versions there were.
"""

import ast
import contextlib
import dataclasses
import functools
import hashlib
import importlib
import inspect
import itertools
import json
import sys
import sysconfig
import textwrap
import types

import numpy as np

OUR_PACKAGES = ("xraygan", "utils", "__main__")  # their code is followed, and that of files that aren't an installed library's
PLUMBING = (
    "xraygan.disk",
    "xraygan.keys",
    "xraygan.run",
    "xraygan.training",
)  # files and progress; what decides a number there is named by itself
LIBRARIES = tuple({sysconfig.get_path(kind) for kind in ("stdlib", "platstdlib", "purelib", "platlib")})
MESSAGES = ("print", "tqdm.write", "warnings.warn")
PLAIN = (bool, int, float, complex, str, bytes, type(None))
MISSING = object()


def digest(content, length=8):
    """A short hash of anything that JSON can hold."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:length]


def describe(value):  # noqa: PLR0911, one a kind of value
    """Write a value out as JSON holds it: dataclasses by their fields, functions by their code.

    A field whose metadata says `{"key": False}`, such as the words that explain an arm, is left out.
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = [field for field in dataclasses.fields(value) if field.metadata.get("key", True)]
        return {field.name: describe(getattr(value, field.name)) for field in fields}
    if isinstance(value, dict):
        return {str(name): describe(entry) for name, entry in value.items()}
    if isinstance(value, list | tuple):
        return [describe(entry) for entry in value]
    if isinstance(value, functools.partial):
        return describe([value.func, value.args, value.keywords])
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    if callable(value):
        return digest([describe_code(value if _has_code(value) else type(value)), describe(_list_state(value))], 16)
    return value


def _has_code(value):
    """Whether something callable is a function, method or class, and no object with a method `__call__`."""
    return inspect.isroutine(value) or isinstance(value, type | np.ufunc)


def _list_state(value):
    """What a callable object holds that its code doesn't say."""
    owner = value.__self__ if isinstance(value, types.MethodType) else value
    if _has_code(owner):
        return {}
    if not hasattr(owner, "get_config"):
        return dict(getattr(owner, "__dict__", {}))
    config = owner.get_config() | getattr(owner, "_fn_kwargs", {})  # where Keras keeps what its losses are made with
    return {name: entry for name, entry in config.items() if name not in ("name", "dtype")}  # they depend on the process


# Code


@functools.cache
def describe_code(function, _callers=()):
    """The code of a function or class as text in which only what it computes can be seen.

    Names of this project's functions and classes are replaced by a hash of their code, names of its constants by their value. A
    dict of functions or descriptions, a registry, stays a name: which entry is used, a description says.

    Raises:
        ValueError: its source can't be read.
    """
    function = inspect.unwrap(function)
    if function in _callers:
        return "itself"
    if not _is_ours(function.__module__):
        return _name_library(function)
    known = vars(sys.modules[function.__module__]) if isinstance(function, type) else dict(function.__globals__)
    closure = getattr(function, "__closure__", None)
    for name, cell in zip(function.__code__.co_freevars, closure, strict=True) if closure else ():
        known = known | {name: cell.cell_contents}
    node = _Canonical(known, function.__module__, (*_callers, function)).visit(_parse(function))
    if hasattr(node, "name"):
        node.name = None
    return _write(node)


def _parse(function):
    """The syntax tree of a function, class or lambda."""
    try:
        if getattr(function, "__name__", "") != "<lambda>":
            return ast.parse(textwrap.dedent(inspect.getsource(function))).body[0]
        lines, _ = inspect.findsource(function)
    except (OSError, TypeError) as error:
        raise ValueError(f"the code of {function.__qualname__} can't be read: define it in a file or in a notebook.") from error
    tree, places = ast.parse("".join(lines)), set(function.__code__.co_positions())
    return next(
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.Lambda)
        and (node.body.lineno, node.body.end_lineno, node.body.col_offset, node.body.end_col_offset) in places
    )


class _Canonical(ast.NodeTransformer):
    """Numbers local variables instead of naming them, drops what computes nothing, and resolves what this project defines."""

    def __init__(self, known, module, callers):
        self.known, self.module, self.callers = known, module, callers
        self.local_names, self.numbers = {}, itertools.count()

    # Scopes

    def visit_FunctionDef(self, node):
        node.decorator_list = [self.visit(decorator) for decorator in node.decorator_list]
        node.name = self.local_names.get(node.name, node.name)
        self._visit_scope(node, node.body)
        return node

    def visit_Lambda(self, node):
        self._visit_scope(node, [node.body])
        return node

    def _visit_scope(self, node, body):
        arguments, outer = node.args, self.local_names
        arguments.defaults = [self.visit(default) for default in arguments.defaults]
        arguments.kw_defaults = [default and self.visit(default) for default in arguments.kw_defaults]
        names = [argument.arg for argument in ast.walk(arguments) if isinstance(argument, ast.arg)]
        elsewhere = {name for part in body for name in _list_names(part, (ast.Global, ast.Nonlocal))}
        names += [name for part in body for name in _list_names(part) if name not in elsewhere]
        self.local_names = outer | {name: f"local {next(self.numbers)}" for name in dict.fromkeys(names)}
        for argument in ast.walk(arguments):
            if isinstance(argument, ast.arg):
                argument.arg = self.local_names[argument.arg]
        if isinstance(node, ast.Lambda):
            node.body = self.visit(node.body)
        else:
            node.body = [changed for part in node.body if (changed := self.visit(part)) is not None]
        self.local_names = outer

    def visit_ClassDef(self, node):
        node.name = self.local_names.get(node.name, node.name)
        return self.generic_visit(node)

    def visit_ExceptHandler(self, node):
        node.name = self.local_names.get(node.name, node.name)
        return self.generic_visit(node)

    def visit_Nonlocal(self, node):
        node.names = [self.local_names.get(name, name) for name in node.names]
        return node

    # What computes nothing

    def visit_Pass(self, node):
        return None

    def visit_Expr(self, node):
        is_message = isinstance(node.value, ast.Call) and ast.unparse(node.value.func) in MESSAGES
        return None if is_message or isinstance(node.value, ast.Constant) else self.generic_visit(node)

    def visit_Raise(self, node):
        if isinstance(node.exc, ast.Call):
            node.exc = node.exc.func
        node.cause = None
        return self.generic_visit(node)

    # What names stand for

    def visit_ImportFrom(self, node):
        module = importlib.util.resolve_name("." * node.level + (node.module or ""), self.module.rpartition(".")[0])
        for alias in node.names:
            alias.asname = self.local_names.get(alias.asname or alias.name, alias.asname)
            if _is_ours(module):  # what a function imports for itself
                owner = importlib.import_module(module)
                with contextlib.suppress(AttributeError, LookupError):
                    alias.name = self._write_value(getattr(owner, alias.name))
        return node

    def visit_Import(self, node):
        for alias in node.names:
            alias.asname = self.local_names.get(alias.asname, alias.asname)
        return node

    def visit_Name(self, node):
        if node.id in self.local_names:
            return ast.Constant(self.local_names[node.id])
        return self._resolve(node, self.known.get(node.id, MISSING))

    def visit_Attribute(self, node):
        value = self._find(node)
        return self.generic_visit(node) if value is MISSING else self._resolve(node, value)

    def _find(self, node):
        """What a name, or an attribute of one of our modules, stands for."""
        if isinstance(node, ast.Name):
            return MISSING if node.id in self.local_names else self.known.get(node.id, MISSING)
        owner = self._find(node.value) if isinstance(node, ast.Attribute) else None
        is_ours = isinstance(owner, types.ModuleType) and _is_ours(owner.__name__)
        return getattr(owner, node.attr, MISSING) if is_ours else MISSING

    def _resolve(self, node, value):
        try:
            return ast.Constant(self._write_value(value))
        except LookupError:
            return node

    def _write_value(self, value):  # noqa: PLR0911, one a kind of value
        """What a global name stands for, as text; a LookupError where the name itself has to do."""
        if isinstance(value, PLAIN):
            return repr(value)
        if isinstance(value, np.ndarray | np.generic):
            return f"array {value.tolist()}"
        if isinstance(value, list | tuple):
            return f"{[self._write_value(entry) for entry in value]}"
        if isinstance(value, set | frozenset):
            return f"{sorted(self._write_value(entry) for entry in value)}"
        if isinstance(value, dict) and all(isinstance(entry, (*PLAIN, list, tuple, dict)) for entry in value.values()):
            return f"{[(self._write_value(name), self._write_value(entry)) for name, entry in value.items()]}"
        if isinstance(value, functools.partial):
            return self._write_value([value.func, value.args, value.keywords])
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            return digest(describe(value))
        if callable(value) and not _has_code(value):
            return digest(describe(value))
        function = inspect.unwrap(value) if callable(value) else value
        if isinstance(function, types.FunctionType | type) and _is_ours(function.__module__):
            if function.__module__.startswith(PLUMBING) or _only_watches(function):
                raise LookupError
            return digest(describe_code(function, self.callers))
        if isinstance(value, types.ModuleType) and _is_ours(value.__name__):
            raise LookupError
        return _name_library(value)


def _list_names(node, kinds=()):
    """The names that a statement gives a value to, in order, those inside of its own functions and classes aside.

    Args:
        node: the statement.
        kinds: the names in statements of these kinds instead, e.g. those declared `global`.
    """
    if isinstance(node, ast.Global | ast.Nonlocal):
        return node.names if kinds else []
    names = []
    if not kinds:
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names = [node.id]
        elif isinstance(node, ast.FunctionDef | ast.ClassDef | ast.ExceptHandler) and node.name:
            names = [node.name]
        elif isinstance(node, ast.Import | ast.ImportFrom):
            names = [alias.asname or alias.name for alias in node.names if alias.asname or isinstance(node, ast.ImportFrom)]
    if isinstance(node, ast.FunctionDef | ast.ClassDef | ast.Lambda):
        return names
    return names + [name for child in ast.iter_child_nodes(node) for name in _list_names(child, kinds)]


def _is_ours(name):
    """Whether the code of a module is followed."""
    if name and name.partition(".")[0] in OUR_PACKAGES:
        return True
    file = getattr(sys.modules.get(name), "__file__", None) or ""
    return bool(file) and not file.startswith(LIBRARIES) and "-packages" not in file


def _only_watches(value):
    """Whether a class is a callback or an error: what it does to a number, if anything, is named by itself."""
    return isinstance(value, type) and any(base.__name__ in ("Callback", "BaseException") for base in value.__mro__)


def _name_library(value):
    """The name of something that a library defines, whatever it is imported as; a LookupError where it has none."""
    name = getattr(value, "__qualname__", None) or getattr(value, "__name__", None)
    if not isinstance(name, str):
        raise LookupError
    package = name if isinstance(value, types.ModuleType) else getattr(value, "__module__", None) or ""
    return f"{package.partition('.')[0]}: {name.rpartition('.')[2] if isinstance(value, types.ModuleType) else name}"


def _write(node):
    """A syntax tree as text that is the same in every version of Python: empty fields and annotations left out."""
    if isinstance(node, ast.AST):
        fields = [
            (name, value) for name, value in ast.iter_fields(node) if name not in ("returns", "annotation", "type_comment")
        ]
        written = [f"{name}={_write(value)}" for name, value in fields if value is not None and value != []]
        return f"{type(node).__name__}({', '.join(written)})"
    if isinstance(node, list):
        return f"[{', '.join(_write(entry) for entry in node)}]"
    return repr(node)


# Networks


@functools.cache
def describe_network(build, *arguments):
    """A hash of the network that `build(*arguments, next_seed)` gives, whatever its code looks like.

    It is built twice with different seeds: weights that are equal in both aren't drawn but given, by training elsewhere say, and are
    part of the hash. The seeds are counted, so that the hash also says which layer takes which.
    """
    import keras  # here, so that naming the arms needs no deep-learning library

    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")  # whatever this process computes in; what a layer insists on stands out
    try:
        one, other = (build(*arguments, itertools.count(start).__next__) for start in (0, 10_000))
    finally:
        keras.config.set_dtype_policy(policy)
    given = hashlib.sha256()
    for first, second in zip(one.variables, other.variables, strict=True):
        values = keras.ops.convert_to_numpy(first)
        given.update(values.tobytes() if np.array_equal(values, keras.ops.convert_to_numpy(second)) else b"drawn")
    return digest([write_network(one), _list_own_code(one), given.hexdigest()], 16)


def write_network(model):
    """The configuration of a built Keras model, its layers numbered instead of named and nothing that is None."""
    numbers = {}

    def number(value):
        if isinstance(value, list | tuple):
            return [number(entry) for entry in value]
        return numbers.setdefault(value, f"layer {len(numbers)}") if isinstance(value, str) else value

    def renamed(value):
        if isinstance(value, dict):
            if value.get("class_name") == "__lambda__":
                return "a function"  # its bytecode, which says where its file is; `_list_own_code` has its code
            if str(value.get("class_name")).endswith("DTypePolicy"):
                return value
            return {
                key: number(entry) if key in ("name", "keras_history", "input_layers", "output_layers") else renamed(entry)
                for key, entry in value.items()
                if entry is not None
            }
        return [renamed(entry) for entry in value] if isinstance(value, list | tuple) else value

    return json.loads(json.dumps(renamed(model.get_config()), default=str))


def _list_own_code(model):
    """The code of layers, activations, initialisers and the like that this project defines: a configuration has their names alone."""
    code = []
    for layer in [model, *model._flatten_layers(include_self=False)]:
        for part in [layer, *vars(layer).values()]:
            kind = part if isinstance(part, types.FunctionType) else type(part)
            if isinstance(inspect.unwrap(kind), types.FunctionType | type) and _is_ours(kind.__module__):
                code.append(digest(describe_code(kind), 16))
    return code
