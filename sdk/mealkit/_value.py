"""Values: ``dataclass`` and ``field`` as in :mod:`dataclasses`, without the half millisecond that a class costs there.

The standard library compiles each method of each class anew; a command that defines sixty values and makes ten of them
pays for all before it begins. Here the classes share their methods. ``dataclasses`` itself is imported, and asked, only
where one of its functions is used on a value (``replace``, ``asdict``, ``fields`` …), or for options not known here.
Type checkers see the standard library's functions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from collections.abc import Callable
    from dataclasses import asdict, dataclass, field, replace
else:

    def field(**options: Any) -> Any:
        """As :func:`dataclasses.field`."""
        return _Options(options)

    def dataclass(cls: type | None = None, /, *, frozen: bool = False, **further: bool) -> Any:
        """As :func:`dataclasses.dataclass`."""
        if further:
            from dataclasses import dataclass as real

            return lambda one: real(frozen=frozen, **further)(_ready(one))
        return (lambda one: _value(one, frozen)) if cls is None else _value(cls, frozen)

    def replace(value: Any, /, **changes: Any) -> Any:
        """As :func:`dataclasses.replace`."""
        if not hasattr(value, "_names"):
            import dataclasses

            return dataclasses.replace(value, **changes)
        return type(value)(**({name: value.__dict__[name] for name in value._names} | changes))

    def asdict(value: Any) -> dict[str, Any]:
        """As :func:`dataclasses.asdict`, but for what the fields hold, which is not copied."""
        if not hasattr(value, "_names"):
            import dataclasses

            return dataclasses.asdict(value)
        return {name: _plain(value.__dict__[name]) for name in value._names}

    def _plain(value: Any) -> Any:
        if isinstance(value, tuple | list):
            return type(value)(map(_plain, value))
        if isinstance(value, dict):
            return {key: _plain(held) for key, held in value.items()}
        is_value = hasattr(type(value), "_names") or hasattr(type(value), "__dataclass_fields__")
        return asdict(value) if is_value else value


__all__ = ["asdict", "dataclass", "field", "replace"]


_STANDARD = ("__dataclass_fields__", "__dataclass_params__")


class _Options:
    """What :func:`field` was told."""

    def __init__(self, options: dict[str, Any]) -> None:
        self.options = options


def _ready(cls: type) -> type:
    """A class as the standard library wants it: with its own fields."""
    import dataclasses

    for name, default in list(vars(cls).items()):
        if isinstance(default, _Options):
            setattr(cls, name, dataclasses.field(**default.options))
    return cls


class _Standard:
    """The attributes by which the standard library knows its classes, made when it looks for them."""

    def __init__(self, owner: type, name: str, frozen: bool, told: dict[str, Any]) -> None:
        self._owner, self._name, self._frozen, self._told = owner, name, frozen, told

    def __get__(self, value: object, cls: type) -> Any:
        import dataclasses

        owner = self._owner
        space = {"__annotations__": vars(owner).get("__annotations__", {}), "__module__": owner.__module__}
        twin = _ready(type(owner.__name__, owner.__bases__, space | self._told))
        made: Any = dataclasses.dataclass(frozen=self._frozen)(twin)
        for name in _STANDARD:
            setattr(owner, name, getattr(made, name))
        return getattr(made, self._name)


def _value(cls: Any, frozen: bool) -> Any:
    names: dict[str, dict[str, Any]] = {}
    for base in reversed(cls.__mro__[1:]):
        names |= vars(base).get("_options", {})
    told = {}
    for name, kind in vars(cls).get("__annotations__", {}).items():
        if not isinstance(kind, str):
            raise TypeError("a module of values begins with `from __future__ import annotations`")
        if kind.startswith("ClassVar"):
            continue
        options: dict[str, Any] = {}
        if name in vars(cls):
            default = told[name] = vars(cls)[name]
            options = default.options if isinstance(default, _Options) else {"default": default}
            if isinstance(default, _Options):
                if "default" in options:
                    setattr(cls, name, options["default"])
                else:
                    delattr(cls, name)
        names[name] = options
    cls._options = names
    cls._names = tuple(names)
    setattr(cls, "__match_args__", cls._names)  # noqa: B010 - mypy knows it as one that is not set
    cls._known = frozenset(names)
    cls._compared = tuple(name for name, options in names.items() if options.get("compare", True))
    cls.__init__, cls.__eq__ = _initialise, _equal
    cls.__hash__ = _hash if frozen else None
    if "__repr__" not in vars(cls):
        cls.__repr__ = _text
    if frozen:
        cls.__setattr__, cls.__delattr__ = _refuse_to_set, _refuse_to_delete
    for name in _STANDARD:
        setattr(cls, name, _Standard(cls, name, frozen, told))
    return cls


def _initialise(self: Any, *given: Any, **named: Any) -> None:
    names = self._names
    if given:
        if len(given) > len(names):
            raise TypeError(f"{type(self).__name__} takes {len(names)} values, and was given {len(given)}")
        twice = named.keys() & set(names[: len(given)])
        if twice:
            raise TypeError(f"{type(self).__name__} was given {sorted(twice)[0]} twice")
        named |= zip(names, given, strict=False)
    if named.keys() != self._known:
        _complete(type(self), named)
    self.__dict__.update(named)
    if hasattr(self, "__post_init__"):
        self.__post_init__()


def _complete(cls: Any, named: dict[str, Any]) -> None:
    """Add the defaults of what was not given."""
    for name in named:
        if name not in cls._known:
            raise TypeError(f"{cls.__name__} has no field {name!r}")
    for name, options in cls._options.items():
        if name in named:
            continue
        if "default" in options:
            named[name] = options["default"]
        elif "default_factory" in options:
            make: Callable[[], Any] = options["default_factory"]
            named[name] = make()
        else:
            raise TypeError(f"{cls.__name__} was given no {name!r}")


def _key(value: Any) -> tuple[Any, ...]:
    held = value.__dict__
    return tuple(held[name] for name in value._compared)


def _equal(self: Any, other: object) -> Any:
    return _key(self) == _key(other) if other.__class__ is self.__class__ else NotImplemented


def _hash(self: Any) -> int:
    return hash(_key(self))


def _text(self: Any) -> str:
    shown = (name for name, options in self._options.items() if options.get("repr", True))
    return f"{type(self).__qualname__}({', '.join(f'{name}={self.__dict__[name]!r}' for name in shown)})"


def _refuse_to_set(self: object, name: str, value: object) -> NoReturn:
    _refuse(f"cannot assign to field {name!r}")


def _refuse_to_delete(self: object, name: str) -> NoReturn:
    _refuse(f"cannot delete field {name!r}")


def _refuse(message: str) -> NoReturn:
    from dataclasses import FrozenInstanceError

    raise FrozenInstanceError(message)
