"""The names of settings in messages. The reader sees what they have typed: `max_message` in Python,
`--max-message` on the command line."""

from __future__ import annotations

# Options that are not the argument's name with dashes.
OPTIONS = {"initializer": "--init"}

_by_options = False


def use_options(yes: bool = True) -> None:
    """Make messages of this process name options, because it is a command or works for one."""
    global _by_options
    _by_options = yes


def uses_options() -> bool:
    return _by_options


def setting(name: str, value: object = None, *, by_option: bool = False) -> str:
    """The name of a setting, with its value if one is given.

    Args:
        by_option: name the option, because the job comes from a command.

    >>> setting("max_message"), setting("tls", "psk")
    ('max_message', "tls='psk'")
    >>> setting("max_message", by_option=True), setting("tls", "psk", by_option=True)
    ('--max-message', '--tls psk')
    """
    if _by_options or by_option:
        option = _option(name)
        return option if value is None else f"{option} {value}"
    return name if value is None else f"{name}={value!r}"


def parameter(name: str) -> str:
    """What click calls the option of a setting.

    >>> parameter("max_message"), parameter("initializer")
    ('max_message', 'init')
    """
    return _option(name).removeprefix("--").replace("-", "_")


def _option(name: str) -> str:
    return OPTIONS.get(name) or "--" + name.replace("_", "-")
