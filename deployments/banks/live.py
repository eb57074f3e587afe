"""What a replica needs for banks that change while it runs, put together and taken apart."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from deployments.banks.canary import Canary
from deployments.banks.desk import BankDesk
from deployments.banks.follower import BankFollower
from deployments.banks.recent import FrameSample
from deployments.engine_door import EngineDoor
from reelsight.engine import EngineRecipe
from reelsight.labels import BankPointer, BankShelf
from reelsight.labels.file_pointer import FilePointer
from reelsight.labels.redis_pointer import RedisPointer
from reelsight.plan import TaggingPlan
from reelsight.settings import Settings

__all__ = ["LiveBanks", "follower_for", "open_pointer"]


def open_pointer(settings: Settings, plan: TaggingPlan) -> BankPointer:
    """What says which bank is current, for all replicas of one model.

    Raises:
        ConfigError: serve.bank_pointer is no url.
    """
    model = plan.spec.model_hash[:16]
    url = settings.serve.bank_pointer
    if url is not None:
        return RedisPointer(url, f"reelsight:current-bank:{model}")
    return FilePointer(settings.banks_dir / f"current-{model}.json")


def follower_for(
    settings: Settings,
    plan: TaggingPlan,
    engine: EngineDoor,
    use: Callable[[TaggingPlan], None],
) -> BankFollower:
    """A follower for a replica.

    Args:
        settings: Where the banks and their pointer are.
        plan: With the bank of the settings.
        engine: For the canary.
        use: Takes the plan with another bank.
    """
    return BankFollower(
        open_pointer(settings, plan),
        BankShelf(settings.banks_dir),
        plan,
        Canary(engine),
        use,
        settings.serve.banks.poll_s,
    )


class LiveBanks:
    """The banks of a replica that answers HTTP. It belongs to one event loop.

    Args:
        recipe: Its text tower embeds drafts.
        plan: With the bank of the settings.
        settings: Where the banks and their pointer are, and caps.
        engine: For the canary.
        use: Takes the plan with another bank.
        recent: Gives frames for previews.
        spread: Lets the other replicas look at the pointer, where there are any.
    """

    def __init__(
        self,
        recipe: EngineRecipe,
        plan: TaggingPlan,
        settings: Settings,
        engine: EngineDoor,
        *,
        use: Callable[[TaggingPlan], None],
        recent: Callable[[], Awaitable[FrameSample]],
        spread: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self.follower = follower_for(settings, plan, engine, use)
        self._spread = spread
        self.desk = BankDesk(
            open_pointer(settings, plan),
            BankShelf(settings.banks_dir),
            recipe,
            plan,
            Canary(engine),
            settings.serve.banks,
            recent=recent,
            tell=self._tell,
        )

    async def start(self) -> None:
        """Follow; the current bank is served when this returns, unless it cannot be."""
        self.follower.start()
        await self.follower.looked()

    async def stop(self) -> None:
        """Follow no more."""
        await self.follower.stop()
        self.desk.close()

    async def _tell(self) -> None:
        await self.follower.look()
        if self._spread is not None:
            await self._spread()
