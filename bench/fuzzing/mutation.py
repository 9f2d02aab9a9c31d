"""Damaged bytes, made cheaply from good ones: a few microseconds each, so that the parser is what takes the time.

Bytes are damaged blindly (bits, cuts, splices, lengths that lie) or along the grammar of JSON (a token replaced by a
hostile one, a member given twice). The same seed and samples give the same bytes.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from random import Random
from typing import Final, NamedTuple

_TOKEN: Final = re.compile(rb'"(?:[^"\\]|\\.)*"|-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?|true|false|null|[{}\[\]:,]')
_MEMBER: Final = re.compile(rb'"(?:[^"\\]|\\.)*":(?:"(?:[^"\\]|\\.)*"|[^\[{,}\]]+),?')

HOSTILE: Final = (
    *(b"NaN", b"Infinity", b"-Infinity", b"1e999", b"-1e999", b"1e-999", b"-0", b"0", b"-1", b"1.5", b"1e300"),
    *(b"2147483648", b"9223372036854775808", b"-9223372036854775809", b"18446744073709551616", b"9" * 400, b"9" * 5000),
    *(
        b'""',
        b'"\\ud800"',
        b'"\\u0000"',
        b'"\xff\xfe"',
        b'"\xc0\x80"',
        b'"' + b"A" * 3000 + b'"',
        b'"\xf0\x9f\x92\xa9"',
    ),
    *(b'"../../etc/passwd"', b'"%2e%2e/x"', b'"a/b"', b'"+"', b'"#"', b'"' + b"f" * 64 + b'"', b'"' + b"A" * 64 + b'"'),
    *(
        b"null",
        b"true",
        b"false",
        b"{}",
        b"[]",
        b"[[]]",
        b'{"":{}}',
        b'"',
        b"\\",
        b",",
        b":",
        b"\x00",
        b"/*",
        b"\xef\xbb\xbf",
    ),
    *(b"[" * 2000, b'{"a":' * 1000, b"]" * 50, b"}" * 50, b"[" + b"0," * 1500 + b"0]"),
)
"""What stands in for a token: numbers that no type holds, strings that are none, nesting without end."""

_LENGTHS: Final = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 2**63 - 1, 2**64 - 1)


class Sample(NamedTuple):
    """Good bytes, and where their JSON tokens and members lie (none when they are not JSON)."""

    data: bytes
    tokens: tuple[tuple[int, int], ...]
    members: tuple[tuple[int, int], ...]


Operator = Callable[[bytes, "Mutator"], bytes]


class Mutator:
    """Endless damaged copies of `samples`; `operators` are the ways to damage them blindly."""

    def __init__(self, samples: Sequence[bytes], seed: int, operators: Sequence[Operator] = ()) -> None:
        self._blind = operators or BLIND
        self._samples = [_sample(data) for data in samples]
        rng = Random(seed)
        self.below: Callable[[int], int] = lambda bound: int(rng.random() * bound)
        """A number from 0 up to, but not including, `bound`."""

    def __iter__(self) -> Iterator[bytes]:
        below = self.below
        while True:
            sample = self._samples[below(len(self._samples))]
            data = self._first(sample)
            for _ in range((0, 0, 0, 1, 2)[below(5)]):
                data = self._blind[below(len(self._blind))](data, self)
            yield data

    def another(self) -> bytes:
        """Some sample."""
        return self._samples[self.below(len(self._samples))].data

    def _first(self, sample: Sample) -> bytes:
        kind = self.below(8)
        if sample.tokens and kind < 4:
            start, end = sample.tokens[self.below(len(sample.tokens))]
            return sample.data[:start] + HOSTILE[self.below(len(HOSTILE))] + sample.data[end:]
        if sample.members and kind < 5:
            start, end = sample.members[self.below(len(sample.members))]
            member = sample.data[start:end].rstrip(b",")
            return sample.data[:start] + member + b"," + sample.data[start:]
        return self._blind[self.below(len(self._blind))](sample.data, self)


def _sample(data: bytes) -> Sample:
    if data[:1] not in (b"{", b"["):
        return Sample(data, (), ())
    spans = tuple(match.span() for match in _TOKEN.finditer(data))
    return Sample(data, spans, tuple(match.span() for match in _MEMBER.finditer(data)))


def flip_bit(data: bytes, mutator: Mutator) -> bytes:
    """One bit is another."""
    if not data:
        return b"\x00"
    out, at = bytearray(data), mutator.below(len(data))
    out[at] ^= 1 << mutator.below(8)
    return bytes(out)


def set_bytes(data: bytes, mutator: Mutator) -> bytes:
    """Up to eight bytes are others."""
    if not data:
        return b"\xff"
    out, at = bytearray(data), mutator.below(len(data))
    for place in range(at, min(len(out), at + 1 + mutator.below(8))):
        out[place] = mutator.below(256)
    return bytes(out)


def _cut(data: bytes, mutator: Mutator) -> bytes:
    return data[: mutator.below(len(data) + 1)]


def _cut_out(data: bytes, mutator: Mutator) -> bytes:
    at = mutator.below(len(data) + 1)
    return data[:at] + data[at + 1 + mutator.below(32) :]


def _repeat(data: bytes, mutator: Mutator) -> bytes:
    at = mutator.below(len(data) + 1)
    return data[: at + mutator.below(64)] + data[at:]


def _insert(data: bytes, mutator: Mutator) -> bytes:
    at = mutator.below(len(data) + 1)
    return data[:at] + HOSTILE[mutator.below(len(HOSTILE))] + data[at:]


def _splice(data: bytes, mutator: Mutator) -> bytes:
    other = mutator.another()
    return data[: mutator.below(len(data) + 1)] + other[mutator.below(len(other) + 1) :]


def _lie_about_length(data: bytes, mutator: Mutator) -> bytes:
    """Lengths and counts stand in the first bytes of every binary format here."""
    width = (1, 2, 4, 8)[mutator.below(4)]
    at = mutator.below(max(1, min(len(data), 32)))
    value = _LENGTHS[mutator.below(len(_LENGTHS))] & ((1 << (8 * width)) - 1)
    return data[:at] + value.to_bytes(width, "little") + data[at + width :]


BLIND: Final[tuple[Operator, ...]] = (
    *(flip_bit, flip_bit, set_bytes, _cut, _cut_out, _repeat, _insert, _splice, _lie_about_length),
)
