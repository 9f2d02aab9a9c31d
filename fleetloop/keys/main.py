"""`fleetloop keys`: makes root keys and roots in a directory, and hands the roots to the hub.

Private keys stay in their files. What is printed is public: keys, versions, what is missing. Nothing secret is taken
from the command line or the environment, and nothing secret is written anywhere but into key files.
"""

import datetime
import sys
import time
from collections.abc import Callable
from pathlib import Path

from fleetloop.keys import ceremony
from fleetloop.keys.files import make_key, public_keys, read_key, read_passphrase, read_root, roots, write_root
from fleetloop.keys.hub import HubFailedError, hand_in, held_keys, root_version
from fleetloop.keys.settings import Settings
from wire.adapters.keys import SigningKey
from wire.adapters.tuf_root import check_root, keys_of, standing_of_root
from wire.errors import MalformedError, SignatureError
from wire.ports import SECOND
from wire.trust import RootKeys


def run(settings: Settings) -> int:
    """Do what `settings.action` says; returns the exit code. Raises MalformedError for what cannot be done."""
    actions: dict[str, Callable[[Settings], None]] = {
        "init": _init,
        "show": _show,
        "new": _new,
        "rotate": _rotate,
        "sign": _sign,
        "push": _push,
    }
    try:
        actions[settings.action](settings)
    except SignatureError as error:
        raise MalformedError(str(error)) from error
    except HubFailedError as error:
        print(f"fleetloop keys: {error}", file=sys.stderr)
        return 1
    return 0


def _init(settings: Settings) -> None:
    directory = Path(settings.keys_dir)
    if roots(directory):
        raise MalformedError(f"keys_dir {directory} has a root already: `fleetloop keys rotate` makes the next one")
    targets, online, director = (public_keys(one) for one in (settings.publisher, settings.online, settings.director))
    if settings.api_key_file and not (online and director):
        held = held_keys(settings)
        online, director = online or tuple(held["online"]), director or tuple(held["director"])
    if not (targets and online and director):
        raise MalformedError(
            "a root names the publisher (set publisher to its publisher.pub) and the hub (set api_key_file to ask it, "
            "or set online and director)"
        )
    made = [] if settings.root_keys else _make_root_keys(settings)
    holders = public_keys(settings.root_keys) or tuple(key.public_hex for key in made)
    named = RootKeys(holders, ceremony.THRESHOLD, targets, online, director)
    root = ceremony.sign(ceremony.first_root(named, time.time_ns()), None, made)
    _keep(directory / "1.root.json", root, None)
    if made and settings.api_key_file:
        _push(settings)


def _show(settings: Settings) -> None:
    for path in _held(Path(settings.keys_dir)).values():
        _describe(path, read_root(path), _before(path))


def _new(settings: Settings) -> None:
    key = make_key(_wanted(settings), read_passphrase(settings.passphrase_file))
    print(key.public_hex)


def _rotate(settings: Settings) -> None:
    directory = Path(settings.keys_dir)
    path, root = _newest(directory)
    if ceremony.missing(root, _before(path)):
        raise MalformedError(f"{path} is not complete yet: sign it (`fleetloop keys sign`), or delete it")
    following = ceremony.next_root(
        root, settings.role, public_keys(settings.add), settings.remove, time.time_ns()
    )  # fmt: skip
    version = standing_of_root(following).version
    signed = ceremony.sign(following, root, _keys_here(settings))
    _keep(directory / f"{version}.root.json", signed, root)


def _sign(settings: Settings) -> None:
    path, root = _newest(Path(settings.keys_dir))
    before = _before(path)
    keys = [read_key(Path(settings.key_file), _passphrase(settings))] if settings.key_file else _keys_here(settings)
    signed = ceremony.sign(root, before, keys)
    if signed == root:
        raise MalformedError(f"{path}: none of these keys is a root key of it, or all have signed it already")
    _keep(path, signed, before)


def _push(settings: Settings) -> None:
    """Every root that the hub has not got, oldest first; all are looked at before the first one leaves."""
    known = root_version(settings)
    paths = [path for version, path in roots(Path(settings.keys_dir)).items() if version > known]
    if not paths:
        print(f"the hub has root version {known} already")
    for path in paths:
        check_root(read_root(path), _before(path))
    hand_in(settings, [read_root(path) for path in paths])
    for path in paths:
        print(f"the hub has taken {path}")


def _make_root_keys(settings: Settings) -> list[SigningKey]:
    directory, passphrase = Path(settings.keys_dir), _passphrase(settings)
    paths = [directory / f"root-{number}.key" for number in range(1, ceremony.ROOT_KEY_COUNT + 1)]
    made = [make_key(path, passphrase) for path in paths]
    print(f"made {', '.join(map(str, paths))}: any two of them sign a root; move each to a place of its own")
    return made


def _keys_here(settings: Settings) -> list[SigningKey]:
    """The root keys that lie in the directory; maybe none, when they have been moved apart."""
    passphrase = _passphrase(settings)
    return [read_key(path, passphrase) for path in sorted(Path(settings.keys_dir).glob("root-*.key"))]


def _keep(path: Path, root: bytes, before: bytes | None) -> None:
    write_root(path, root)
    _describe(path, root, before)


def _describe(path: Path, root: bytes, before: bytes | None) -> None:
    keys, standing = keys_of(root), standing_of_root(root)
    until = datetime.datetime.fromtimestamp(standing.expires_ns // SECOND, datetime.UTC).date()
    lacks = ceremony.missing(root, before)
    print(f"{path}: root version {standing.version} until {until}, {f'needs {lacks}' if lacks else 'complete'}")
    for role in ("root", "targets", "online", "director"):
        count = f" ({keys.threshold} must sign)" if role == "root" else ""
        print(f"  {role}{count}: {', '.join(getattr(keys, role))}")


def _held(directory: Path) -> dict[int, Path]:
    found = roots(directory)
    if not found:
        raise MalformedError(f"keys_dir {directory} has no root: `fleetloop keys init` makes the first one")
    return found


def _newest(directory: Path) -> tuple[Path, bytes]:
    path = list(_held(directory).values())[-1]
    return path, read_root(path)


def _before(path: Path) -> bytes | None:
    version = int(path.name.partition(".")[0])
    return None if version == 1 else read_root(path.with_name(f"{version - 1}.root.json"))


def _passphrase(settings: Settings) -> bytes:
    return read_passphrase(settings.passphrase_file)


def _wanted(settings: Settings) -> Path:
    if not settings.key_file:
        raise MalformedError("key_file is not set: where shall the new key lie?")
    return Path(settings.key_file)
