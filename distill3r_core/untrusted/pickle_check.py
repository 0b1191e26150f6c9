"""Check the pickle of a checkpoint before anything is built from it.

The unpickler of torch calls only harmless functions, but with any argument: a size makes it
allocate, and a forged state of `numpy.dtype` turns numbers into pointers. Here the opcodes are
followed without calling anything.
"""

import math
import pickletools
import zipfile
from dataclasses import dataclass
from io import BufferedIOBase
from pathlib import Path
from typing import IO, Any, cast

from distill3r_core.files import open_file

_DEEPEST = 100  # tuples within each other
_MIN_ALLOWANCE = 1 << 24  # elements that a small file may ask for
_PICKLES = 5  # of a file from before torch 1.6: magic, version, system, content, names of storages
# State of the types of plain numbers, but for the byte order at 1.
_PLAIN_DTYPE = (3, None, None, None, None, -1, -1, 0)
_OBJECT_FLAGS = 63  # of the type of Python objects
_BYTE_ORDERS = ("<", "|", "=")
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_CONTAINERS = ("EMPTY_LIST", "EMPTY_DICT", "EMPTY_SET")


class UnsafePickleError(ValueError):
    """The pickle asks for something that no checkpoint needs; the message says what."""


@dataclass(frozen=True)
class _Value:
    """A value on the stack: a constant, a tuple of values, a global name, or what a call made."""

    content: Any = None
    called: str = ""  # name of the global, or of the one that made it
    depth: int = 0


_MARK = _Value(called="(mark)")


def check_checkpoint(path: Path) -> None:
    """Check a file of `torch.save`, of today's format or of that before torch 1.6.

    Raises:
        UnsafePickleError: Loading it could run or allocate anything.
        ValueError: It is not a pickle.
        OSError: It cannot be read.
    """
    size = path.stat().st_size
    with open_file(path) as file:
        if not zipfile.is_zipfile(file):
            file.seek(0)
            for _ in range(_PICKLES):
                check_pickle(file, size=size)
            return
        file.seek(0)
        with zipfile.ZipFile(file) as archive:
            members = archive.infolist()
            if any(member.compress_type != zipfile.ZIP_STORED for member in members):
                raise UnsafePickleError("its members are compressed, which no checkpoint's are")
            for member in members:
                if member.filename.rpartition("/")[2] == "data.pkl":
                    with archive.open(member) as stream:
                        check_pickle(stream, size=size)


def check_pickle(stream: BufferedIOBase | IO[bytes], *, size: int) -> None:
    """Check one pickle, up to its end.

    Args:
        stream: At its start.
        size: Bytes of the whole file, which bound what it may hold.

    Raises:
        UnsafePickleError: Loading it could run or allocate anything.
        ValueError: It is not a pickle.
    """
    machine = _Machine(allowance=max(4 * size, _MIN_ALLOWANCE))
    try:
        capped = cast("IO[bytes]", _CappedStream(stream, size))
        for opcode, argument, _ in pickletools.genops(capped):
            machine.step(opcode.name, argument)
    except (IndexError, KeyError, AttributeError, EOFError, OverflowError) as error:
        raise ValueError("not a whole pickle") from error


class _CappedStream:
    """A stream that is never asked for more bytes than the file has: a read allocates them."""

    def __init__(self, stream: BufferedIOBase | IO[bytes], size: int) -> None:
        self._stream, self._size = stream, size

    def read(self, count: int) -> bytes:
        return self._stream.read(min(count, self._size))

    def readline(self) -> bytes:
        return self._stream.readline()


class _Machine:
    """Follows the opcodes of a pickle on a stack of `_Value`s."""

    def __init__(self, *, allowance: int) -> None:
        self._allowance = allowance
        self._stack: list[_Value] = []
        self._memo: dict[int, _Value] = {}

    def step(self, name: str, argument: Any) -> None:
        """Follow one opcode."""
        stack = self._stack
        match name:
            case "MARK":
                stack.append(_MARK)
            case "GLOBAL":
                stack.append(_global(argument.replace(" ", ".")))
            case "STACK_GLOBAL":
                module, attribute = self._pop(2)
                stack.append(_global(f"{module.content}.{attribute.content}"))
            case "TUPLE" | "TUPLE1" | "TUPLE2" | "TUPLE3" | "EMPTY_TUPLE":
                count = 0 if name == "EMPTY_TUPLE" else int(name[5:] or -1)
                stack.append(_tuple(self._to_mark() if count < 0 else self._pop(count)))
            case "REDUCE" | "NEWOBJ":
                arguments, function = stack.pop(), stack.pop()
                self._check_call(function.called, arguments)
                stack.append(_Value(arguments.content, called=f"{function.called}()"))
            case "BUILD":
                state = stack.pop()
                if stack[-1].called == "numpy.dtype()":
                    _check_dtype(stack[-1], state)
            case "BINPERSID":
                self._check_storage(stack.pop())
                stack.append(_Value(called="storage"))
            case "APPEND" | "POP":
                stack.pop()
            case "SETITEM":
                self._pop(2)
            case "APPENDS" | "SETITEMS" | "POP_MARK" | "ADDITEMS":
                self._to_mark()
            case "BINGET" | "LONG_BINGET":
                stack.append(self._memo[argument])
            case "BINPUT" | "LONG_BINPUT":
                self._memo[argument] = stack[-1]
            case "MEMOIZE":
                self._memo[len(self._memo)] = stack[-1]
            case "PROTO" | "STOP" | "FRAME":
                pass
            case _ if name in _CONTAINERS:
                stack.append(_Value())
            case _ if name in _CONSTANTS:
                stack.append(_Value(_CONSTANTS[name]))
            case _ if isinstance(argument, int | float | str | bytes):
                stack.append(_Value(argument))
            case _:
                raise UnsafePickleError(f"it has the instruction {name}, which no checkpoint needs")

    def _pop(self, count: int) -> list[_Value]:
        values = [self._stack.pop() for _ in range(count)]
        return values[::-1]

    def _to_mark(self) -> list[_Value]:
        values: list[_Value] = []
        while (value := self._stack.pop()) is not _MARK:
            values.append(value)
        return values[::-1]

    def _check_call(self, function: str, arguments: _Value) -> None:
        content = arguments.content
        values: tuple[Any, ...] = content if isinstance(content, tuple) else ()
        for value in values:
            numbers = value.content if isinstance(value.content, tuple) else (value,)
            sizes = [n.content for n in numbers if type(n.content) is int]
            if any(abs(size) > self._allowance for size in sizes):
                raise UnsafePickleError(f"it asks {function} for more than the file can hold")
        if "_rebuild_tensor" in function and len(values) > 2:
            shape = values[2].content if isinstance(values[2].content, tuple) else ()
            sides = [side.content for side in shape if type(side.content) is int]
            if math.prod(sides) > self._allowance:
                raise UnsafePickleError("it has a tensor that is larger than the file")
        if function.endswith("._reconstruct") and (len(values) < 2 or _plain(values[1]) != (0,)):
            raise UnsafePickleError("it has an array that is made with a size")

    def _check_storage(self, identity: _Value) -> None:
        values = identity.content if isinstance(identity.content, tuple) else ()
        if (
            len(values) > 4
            and type(values[4].content) is int
            and values[4].content > self._allowance
        ):
            raise UnsafePickleError("it has a tensor that is larger than the file")


def _global(name: str) -> _Value:
    if name.rpartition(".")[2] == "bytearray":
        raise UnsafePickleError(f"it asks for {name}, which allocates by a number")
    return _Value(called=name)


def _tuple(values: list[_Value]) -> _Value:
    depth = 1 + max((value.depth for value in values), default=0)
    if depth > _DEEPEST:
        raise UnsafePickleError(f"it has tuples nested more than {_DEEPEST} deep")
    return _Value(tuple(values), depth=depth)


def _check_dtype(dtype: _Value, state: _Value) -> None:
    """Refuse a state that would make a type of numbers one of pointers, or of fields."""
    found, code = _plain(state), _plain(dtype)[:1]
    wanted = _PLAIN_DTYPE if code not in (("O",), ("O8",)) else (*_PLAIN_DTYPE[:-1], _OBJECT_FLAGS)
    plain = len(found) == len(wanted) and found[1] in _BYTE_ORDERS
    if not plain or repr(found[2:]) != repr(wanted[2:]):
        raise UnsafePickleError("it has the state of a numpy.dtype that is not a plain number's")


def _plain(value: _Value) -> tuple[Any, ...]:
    parts = value.content if isinstance(value.content, tuple) else ()
    return tuple(part.content for part in parts)
