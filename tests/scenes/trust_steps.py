"""What tests of the hub's trust repository do and look at, in one line each."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from sqlalchemy import func, select

from cloud.service.trust import deliveries
from cloud.service.trust.rows import current_root, newest
from cloud.tables import desired, trust_metadata, versions
from tests.scenes.hub_steps import request_id, train_order
from tests.worlds.hub_world import MODEL, World
from wire.adapters.keys import SigningKey
from wire.adapters.tuf_metadata import make_bin, make_targets
from wire.adapters.tuf_root import keys_of, make_root, sign_root
from wire.codec import decode
from wire.ports import SECOND
from wire.release import Release, object_ref
from wire.trust import TARGETS_LIFE_S, Target, bin_of, bin_roles, target_path

PATH = target_path(MODEL, 1)
BIN = bin_of(PATH)
FAR = TARGETS_LIFE_S * SECOND


async def version(world: World, role: str) -> int:
    """Newest version of a role; 0 = none."""
    row = await world.store.read(lambda conn: newest(conn, role))
    return 0 if row is None else int(row.version)


async def everything(world: World) -> list[tuple[str, int, bytes]]:
    """The whole repository, to see that a refusal changes nothing."""
    query = select(trust_metadata.c.role, trust_metadata.c.version, trust_metadata.c.content)
    rows = await world.store.read(lambda conn: conn.execute(query.order_by(trust_metadata.c.role, "version")).all())
    return [tuple(row) for row in rows]


async def next_root(world: World, *, signed_by: tuple[str, ...] = ("root 1", "root 2"), **changes: Any) -> bytes:
    """A root after the present one, with changed keys, signed by these of the world's keys."""
    before = await world.store.read(current_root)
    keys = replace(keys_of(before), **changes)
    root = make_root(await version(world, "root") + 1, world.clock.ns + FAR, keys)
    for name in signed_by:
        root = sign_root(root, world.keys[name])
    return root


async def adopt(world: World, root: bytes) -> None:
    """An administrator hands the root in, and the hub looks at what that means."""
    now_ns = world.clock.now_ns()
    await world.store.write(lambda conn: deliveries.adopt_root(conn, world.notary, root, "admin", now_ns))
    await world.trust.look()


async def deliver(world: World, files: Mapping[str, bytes], *, restored: bool = False) -> None:
    """The publisher hands in what it signed anew."""
    now_ns = world.clock.now_ns()
    await world.store.write(
        lambda conn: deliveries.deliver(conn, world.notary, files, "publisher", now_ns, restored=restored)
    )


async def waiting(world: World) -> tuple[str, Target]:
    """A version that waits for its signature: id of the request, and the target that it should become."""
    await train_order(world)
    await world.train()
    request = await request_id(world)
    row = await world.store.read(lambda conn: conn.execute(select(versions)).one())
    ref = object_ref(row.release)
    return request, Target(ref.bytes, ref.sha256, decode(row.release, Release).counter)


def everything_by(key: SigningKey, number: int, targets: Mapping[str, Target], expiry: int) -> dict[str, bytes]:
    """Targets and bins of this version, by this key."""
    bins = {
        role: make_bin(number, expiry, {path: one for path, one in targets.items() if bin_of(path) == role}, key)
        for role in bin_roles()
    }
    return {"targets": make_targets(number, expiry, key), **bins}


async def targets(world: World, role: str = BIN) -> Mapping[str, Target]:
    """What the newest bin of a role lists."""
    row = await world.store.read(lambda conn: newest(conn, role))
    return world.notary.read_bin(row.content, role).targets


async def assigned(world: World, device: str) -> bool:
    """Has the device an assignment?"""
    count = select(func.count()).select_from(desired).where(desired.c.device == device)
    return bool(await world.store.read(lambda conn: conn.scalar(count)))
