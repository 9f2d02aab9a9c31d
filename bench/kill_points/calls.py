"""What the agent does to its data directory, as strace sees it: which system calls, how often, on which paths."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

WATCHED = (
    "openat", "open", "creat", "write", "pwrite64", "fsync", "fdatasync", "rename", "renameat", "renameat2",
    "unlink", "unlinkat", "ftruncate", "fallocate", "link", "linkat",
)  # fmt: skip
_CALL = re.compile(r"^(\d+) +(\w+)\((.*)")


@dataclass(frozen=True, slots=True)
class Calls:
    """`counts`: the most calls of each kind by one thread; strace counts each thread for itself."""

    counts: dict[str, int]
    paths: tuple[str, ...]


def observe(log: Path) -> list[str]:
    """strace's command line that notes every watched call, with the paths behind file descriptors."""
    names = ",".join(f"?{name}" for name in WATCHED)
    return ["strace", "-f", "-q", "--seccomp-bpf", "-y", "-s", "300", "-e", f"trace={names}", "-o", str(log)]


def inject(call: str, action: str, paths: Iterable[str]) -> list[str]:
    """strace's command line that does `action` ("signal=SIGKILL:when=3") at this call on one of `paths`.

    Without its filter in the kernel, which is quicker but with which strace 6.1 delivers no signal.
    """
    only = [word for path in paths for word in ("-P", path)]
    rule = f"inject={call}:{action}"
    return ["strace", "-f", "-q", "-q", "-o", "/dev/null", "-e", f"trace={call}", *only, "-e", rule]


def read(log: Path, directory: Path, ignored: Sequence[str]) -> Calls:
    """The calls that concern files in `directory`, but none of the `ignored` ones in it."""
    counts: Counter[tuple[str, str]] = Counter()
    paths = set()
    for thread, call, touched in _touching(log, str(directory)):
        kept = [path for path in touched if not _ignored(path, directory, ignored)]
        if kept:
            counts[thread, call] += 1
            paths |= set(kept)
    most: dict[str, int] = {}
    for (_, call), number in counts.items():
        most[call] = max(most.get(call, 0), number)
    return Calls(most, tuple(sorted(paths)))


def _touching(log: Path, directory: str) -> Iterator[tuple[str, str, list[str]]]:
    path = re.compile(re.escape(directory) + r'(?:/[^">]*)?(?=["> ])')
    for line in log.read_text(errors="replace").splitlines():
        found = _CALL.match(line)
        if found is not None and (touched := path.findall(found[3])):
            yield found[1], found[2], touched


def _ignored(path: str, directory: Path, ignored: Sequence[str]) -> bool:
    return any(path.startswith(str(directory / one)) for one in ignored)
