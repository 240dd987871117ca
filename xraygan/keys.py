"""The key of a training: a hash of everything that decides its numbers, and of nothing else.

A description (a frozen dataclass) is written out field by field. A function that a description names is written out as its code,
without comments, docstrings and the names of its local variables, and with the code of the functions and classes and the values of the
constants of this project that it uses. A network is written out as the configuration of its built layers, with the weights that it was given from
elsewhere. So an edited constant, range or layer makes another key, and a reworded comment or a renamed local variable doesn't.

What a library does is known by its name alone: a run's record says which versions there were.
"""

import ast
import dataclasses
import functools
import hashlib
import inspect
import itertools
import json
import sys
import textwrap
import types

import numpy as np

HOLDS_LAYER_NAMES = ("name", "keras_history", "input_layers", "output_layers")
NOT_WRITTEN = ("returns", "annotation", "type_comment", "decorator_list", "ctx")


def digest(content, length=8):
    """A short hash of anything that JSON can hold."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:length]


def choose(registry, name, parameter):
    """The entry of a registry that a parameter names.

    Raises:
        ValueError: there is none of that name; the message says which there are.
    """
    if name not in registry:
        raise ValueError(f"{parameter} is {name!r}; choose one of {', '.join(registry)}.")
    return registry[name]


def describe(value, _callers=()):
    """Write a value out as JSON holds it: dataclasses by their fields, functions and classes by a hash of their code, arrays by one of their bytes.

    A field whose metadata says `{"key": False}`, such as the words that explain an arm, is left out.

    Raises:
        ValueError: it is of a kind that can't be written out, or is a function whose source can't be read.
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = [field for field in dataclasses.fields(value) if field.metadata.get("key", True)]
        return {field.name: describe(getattr(value, field.name), _callers) for field in fields}
    if isinstance(value, dict):
        return {str(name): describe(entry, _callers) for name, entry in value.items()}
    if isinstance(value, list | tuple):
        return [describe(entry, _callers) for entry in value]
    if isinstance(value, set | frozenset):
        return sorted((describe(entry, _callers) for entry in value), key=json.dumps)
    if isinstance(value, functools.partial):
        return describe([value.func, value.args, value.keywords], _callers)
    return _describe_one(value, _callers)


def _describe_one(value, callers):
    """`describe` of what holds no other values."""
    if value is None or isinstance(value, str | int | float):
        return value
    if isinstance(value, np.ndarray | np.generic) and not value.dtype.hasobject:
        return [value.dtype.str, list(value.shape), hashlib.sha256(value.tobytes()).hexdigest()[:16]]
    if callable(value) and hasattr(value, "__name__"):
        is_followed = _is_ours(sys.modules[getattr(value, "__module__", None) or "builtins"])
        return digest(write_code(value, callers), 16) if is_followed else value.__name__
    raise ValueError(
        f"a training's key can't hold {value!r}, a {type(value).__name__}: make it inside the function that uses it, or write it as numbers, text, "
        "a list, a dict, a set or a NumPy array of these."
    )


# Functions


def _remember(describe):
    """`functools.cache`, but not of what a notebook defines: its next cell may define a helper of it anew."""
    remembered = functools.cache(describe)

    @functools.wraps(describe)
    def look_up(function, *arguments):
        return (describe if function.__module__ == "__main__" else remembered)(function, *arguments)

    look_up.cache_clear = remembered.cache_clear
    return look_up


@_remember
def write_code(function, _callers=()):
    """The code of a function or class as text in which only what it computes can be seen.

    Functions, classes and constants of this project or of a notebook that it uses are followed, and so is what a function that another one made has
    from there. A registry (a dict of functions or descriptions) stays a name: which entry is used, a description says.

    Raises:
        ValueError: its source can't be read, or a constant that it uses can't be written out.
    """
    if function in _callers:
        return "itself"
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    except (OSError, TypeError, SyntaxError) as error:
        raise ValueError(
            f"the code of {function!r} can't be read: define a function by `def` in a file or in a notebook, and a class in a file."
        ) from error
    enclosed = inspect.getclosurevars(function).nonlocals if isinstance(function, types.FunctionType) else {}
    node = _Canonical(vars(sys.modules[function.__module__]) | enclosed, (*_callers, function)).visit(tree.body[0])
    node.name = ""
    return _write(node)


class _Canonical(ast.NodeTransformer):
    """Numbers local variables instead of naming them, and puts hashes and values in the place of this project's functions and constants."""

    def __init__(self, known, callers):
        self.known, self.callers, self.local_names = known, callers, {}

    def visit_FunctionDef(self, node):
        """Also of a function inside a function: its variables are numbered on."""
        if ast.get_docstring(node) is not None:
            node.body = node.body[1:]
        parts = list(ast.walk(node))
        names = [part.arg for part in parts if isinstance(part, ast.arg)]
        names += [part.id for part in parts if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Store)]
        names += [part.name for part in parts if isinstance(part, ast.FunctionDef | ast.ExceptHandler) and part.name]
        for name in names:
            self.local_names.setdefault(name, f"local {len(self.local_names)}")
        node.name = self.local_names[node.name]
        return self.generic_visit(node)

    def visit_ClassDef(self, node):
        node.body = [part for part in node.body if not isinstance(part, ast.Expr)]  # the docstring
        methods = [part.name for part in node.body if isinstance(part, ast.FunctionDef)]
        self.generic_visit(node)
        for part, name in zip([part for part in node.body if isinstance(part, ast.FunctionDef)], methods, strict=True):
            part.name = name  # others call it by that
        return node

    def visit_ExceptHandler(self, node):
        node.name = self.local_names.get(node.name)
        return self.generic_visit(node)

    def visit_arg(self, node):
        node.arg = self.local_names.get(node.arg, node.arg)
        return node

    def visit_Raise(self, node):
        return ast.Raise()  # what it says is no number

    def visit_Name(self, node):
        if node.id in self.local_names:
            return ast.Constant(self.local_names[node.id])
        return self._resolve(node, self.known.get(node.id, node))

    def visit_Attribute(self, node):
        owner = self.known.get(node.value.id) if isinstance(node.value, ast.Name) else None
        if isinstance(owner, types.ModuleType) and _is_ours(owner):
            return self._resolve(node, getattr(owner, node.attr, node))
        return self.generic_visit(node)

    def _resolve(self, node, value):
        """What stands for a global name: the code of our function, the name of a library's, the value of a constant, or the name as it is."""
        if value is node:
            return node
        if callable(value):
            value = inspect.unwrap(value)  # a decorator, TensorFlow's custom_gradient say, may stand around it
        if isinstance(value, types.FunctionType | type) and _is_ours(sys.modules[value.__module__]):
            return ast.Constant(digest(write_code(value, self.callers)))
        if hasattr(value, "__name__"):
            return ast.Constant(value.__name__)
        try:
            return ast.Constant(json.dumps(value))
        except TypeError:
            return node if _is_registry(value) else ast.Constant(json.dumps(describe(value, self.callers)))


def _is_registry(value):
    """Whether a value is a dict of functions, classes or descriptions, by their names."""
    return isinstance(value, dict) and all(callable(entry) or dataclasses.is_dataclass(entry) for entry in value.values())


def _is_ours(module):
    """Whether the code of a module is followed: not that of Python and of installed libraries, in site-packages or (Colab) dist-packages."""
    file, name = getattr(module, "__file__", None), module.__name__.partition(".")[0]
    if not file:
        return name == "__main__"  # a notebook
    return "-packages" not in file and name not in sys.stdlib_module_names


def _write(node):
    """A syntax tree as text that is the same in every version of Python: empty fields and annotations left out."""
    if isinstance(node, ast.AST):
        fields = [(name, value) for name, value in ast.iter_fields(node) if name not in NOT_WRITTEN]
        written = [f"{name}={_write(value)}" for name, value in fields if value is not None and value != []]
        return f"{type(node).__name__}({', '.join(written)})"
    return f"[{', '.join(map(_write, node))}]" if isinstance(node, list) else repr(node)


# Networks


@_remember
def describe_network(build, *arguments):
    """A hash of the network that `build(*arguments, next_seed)` gives, whatever its code looks like.

    It is built twice, with other seeds: what is the same in both comes from elsewhere, from a file of pretrained weights say.
    """
    import keras  # here, so that naming the arms needs no deep-learning library

    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")  # whatever this process computes in; a layer's own precision is seen
    try:  # seeds that are counted show which layer takes which
        model, other = (build(*arguments, itertools.count(first).__next__) for first in (0, 10**6))
    finally:
        keras.config.set_dtype_policy(policy)
    code = sorted({describe(part) for layer in _list_layers(model) for part in _list_own_code(layer)})
    pretrained = _hash_pretrained(model, other)
    return digest([_number_layers(model), code, *pretrained], 16)


def _list_layers(model):
    """All layers of a model, also those of models inside it."""
    for layer in model.layers:
        yield layer
        if hasattr(layer, "layers"):
            yield from _list_layers(layer)


def _list_own_code(layer):
    """What of a layer is this project's: its class, a function that it holds. Its configuration has no more than their names."""
    held = [value for name, value in vars(layer).items() if not hasattr(type(layer), name)]  # Keras wraps its methods
    functions = [value for value in held if isinstance(value, types.FunctionType)]
    return [part for part in (type(layer), *functions) if _is_ours(sys.modules[part.__module__])]


def _hash_pretrained(model, other):
    """A hash of the weights that don't depend on the seeds and that aren't one number all over, in a list; an empty one where there are none."""
    import keras

    digests = []
    for one, another in zip(model.weights, other.weights, strict=True):
        values, elsewhere = (keras.ops.convert_to_numpy(weights) for weights in (one, another))
        if values.min() < values.max() and (values == elsewhere).all():
            digests.append(hashlib.sha256(values.tobytes()).hexdigest())
    return [digest(digests, 16)] if digests else []


def _number_layers(model):
    """The configuration of a built Keras model, its layers numbered instead of named and nothing that is None."""
    numbers = {}

    def number(value):
        if isinstance(value, list | tuple):
            return [number(entry) for entry in value]
        return numbers.setdefault(value, f"layer {len(numbers)}") if isinstance(value, str) else value

    def rewrite(value):
        if isinstance(value, dict):
            if str(value.get("class_name")).endswith("DTypePolicy"):
                return value  # its name is no layer's
            present = [(key, entry) for key, entry in value.items() if entry is not None]
            return {key: number(entry) if key in HOLDS_LAYER_NAMES else rewrite(entry) for key, entry in present}
        return [rewrite(entry) for entry in value] if isinstance(value, list | tuple) else value

    return json.loads(json.dumps(rewrite(model.get_config()), default=str))
