"""A tenant, the reference pair, and a film of which a copy leaked; every door is asked about it."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from engines.runtimes.ort_marks import open_pair
from reelsight.copies.embedding import Embedder
from reelsight.copies.encoder import EncoderSettings
from reelsight.engine import EngineHost
from reelsight.marks.keys import Keyring, generate_tenant_key
from reelsight.marks.ledger import Ledger, Order, open_store
from reelsight.media.limits import MediaLimits
from reelsight.nouns.mark import Identity
from reelsight.settings import Settings
from tests.made_films import Film, write_film
from tests.reference_pair import write_pair

ASSET = "a" * 64
FILM = Film(frames=48, width=320, height=180)
# Few frames and no search: what is compared here is doors.
READ = {"marks.policy": "count:12", "marks.search": False}


@dataclass(frozen=True)
class MarkedWorld:
    """What there is.

    Attributes:
        home: Where it lies.
        serials: Of issued copies, by recipient.
        leak: Anna's copy.
        clean: The film that nobody marked.
    """

    home: Path
    serials: dict[str, str]
    leak: Path
    clean: Path

    def flags(self, **more: Any) -> dict[str, Any]:
        """Settings of marks by their dotted names."""
        own = {
            "marks.pair": str(self.home / "pair"),
            "marks.key_file": str(self.home / "tenant.key"),
            "marks.ledger": str(self.home / "marks.ledger"),
        }
        return own | READ | more

    def settings(self, **more: Any) -> Settings:
        """The same, loaded, with the engine that needs no model."""
        return Settings.load(None, {"engine.backend": "fake"} | self.flags(**more))


def make_marked_world(home: Path) -> MarkedWorld:
    """Make it all."""
    key_file = home / "tenant.key"
    key_file.write_text(generate_tenant_key() + "\n")
    key_file.chmod(0o600)
    write_film(home / "clean.mp4", FILM)
    world = MarkedWorld(home, {}, home / "leak.mp4", home / "clean.mp4")
    pair = open_pair(write_pair(home / "pair"))
    keyring = Keyring.load(Settings.load(None, {"marks.key_file": str(key_file)}).marks)
    codes = {}
    with open_store(str(home / "marks.ledger"), create=True) as store:
        ledger = Ledger(store, keyring)
        for name in ("anna", "eve", *(f"r{i}" for i in range(20))):
            issued = ledger.issue(
                Order(Identity("film", name), ASSET, "file", pair.pair.carrier), "max"
            )
            world.serials[name] = issued.row.serial
            codes[name] = issued.code
    bits = (codes["anna"].signs > 0).astype(np.float32)
    with closing(EngineHost(pair.reader)) as host:
        Embedder(
            pair.writer,
            host,
            MediaLimits(),
            strength_db=36.0,
            encoding=EncoderSettings(23, "veryfast"),
        ).embed(world.clean, world.leak, lambda _: bits)
    return world
