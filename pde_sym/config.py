"""Configuration values: frozen, strict, and the same bytes for the same meaning."""

import hashlib
import json
import tomllib
from pathlib import Path
from typing import Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from pde_sym.errors import InputError

MAX_ASSIGNMENT = 10_000
MAX_CONFIG_BYTES = 64 * 1024


class Frozen(BaseModel):
    """Base of every configuration value: immutable, hashable, no unknown keys."""

    model_config: ClassVar[ConfigDict] = ConfigDict(
        frozen=True,
        extra="forbid",
        allow_inf_nan=False,
        use_attribute_docstrings=True,
        validate_default=True,
    )

    @classmethod
    def parse(cls, values: Any, *, where: str) -> Self:
        """Validate `values`; raise one-line `InputError` that names the key."""
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            raise InputError(f"{where}: {explain(error)}") from error


def explain(error: ValidationError) -> str:
    """Return the first fault as one line, ``key: reason (got value)``."""
    first = error.errors(include_url=False)[0]
    key = ".".join(str(part) for part in first["loc"]) or "value"
    reason = f"{first['msg'].removeprefix('Value error, '):.400}"
    got = first["input"]
    shown = "" if isinstance(got, dict | BaseModel) else f" (got {got!r:.80})"
    others = error.error_count() - 1
    more = f", and {others} more" if others else ""
    # Keys are the user's and may hold anything.
    return " ".join(f"{key}: {reason}{shown}{more}".split())


def canonical_json(value: BaseModel | dict[str, Any] | list[Any]) -> str:
    """Return JSON with sorted keys and no spaces: equal values, equal bytes."""
    plain = value.model_dump(mode="json") if isinstance(value, BaseModel) else value
    return json.dumps(plain, sort_keys=True, separators=(",", ":"), allow_nan=False)


def fingerprint(value: BaseModel | dict[str, Any]) -> str:
    """Return the SHA-256 of the canonical JSON of `value`, in hex."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()


def assignment(text: str, option: str, form: str = "KEY=VALUE") -> tuple[str, str]:
    """Return the two sides of ``KEY=VALUE``; `InputError` names the option."""
    name, _, value = (part.strip() for part in text.partition("="))
    if not (name and value) or len(text) > MAX_ASSIGNMENT:
        raise InputError(f"{option} {text:.80}: expected {form}")
    return name, value


def literal(text: str) -> Any:
    """Return the value that `text` is in JSON, or `text` itself where it is none."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def read_toml(path: Path) -> dict[str, Any]:
    """Read a TOML file of at most 64 KiB.

    Raises
    ------
    InputError
        When the file is missing, too large or not TOML.
    """
    try:
        # A pipe has no end, and a device may give bytes for ever.
        if path.exists() and not path.is_file():
            raise InputError(f"{path}: cannot be read (not a plain file)")
        size = path.stat().st_size
        if size > MAX_CONFIG_BYTES:
            raise InputError(
                f"{path}: {size} bytes; a configuration has at most {MAX_CONFIG_BYTES}"
            )
        text = path.read_text(encoding="utf-8")
        # A dotted key of thousands of parts takes the parser seconds.
        if max((line.count(".") for line in text.splitlines()), default=0) > 200:
            raise InputError(f"{path}: a line has more than 200 dots")
        return tomllib.loads(text)
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read ({error})") from error
    except (tomllib.TOMLDecodeError, RecursionError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path}: not valid TOML ({error})") from error
