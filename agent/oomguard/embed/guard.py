"""The guard inside an app: `oomguard.Guard` watches the app's memory from a thread and asks its hooks for it."""

from __future__ import annotations

import os
import weakref
from typing import TYPE_CHECKING, TypeVar

from oomguard.act.hooks import Call, Hook
from oomguard.briefing import Briefing, Options
from oomguard.decide.plan import Plan
from oomguard.decide.rules import undeclared_hooks
from oomguard.embed.engine import Engine
from oomguard.embed.levels import Audience, Levels, OnLevel
from oomguard.embed.lives import QUIET, watch_over
from oomguard.embed.settings import model_of, plan_of
from oomguard.embed.teller import Teller
from oomguard.errors import UsageError
from oomguard.forecast import Forecast, time_to_limit_s
from oomguard.scorer import scorer_in
from oomguard.sense.sample import NAN

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import TracebackType
    from typing import Any, Literal

    from oomguard.adaptors.adaptor import Adaptor
    from oomguard.adaptors.posted import Post
    from oomguard.adaptors.size import Size
    from oomguard.embed.teller import LogTo
    from oomguard.guard import Reading

_Free = TypeVar("_Free", bound=Call)
NOT_STARTED = "not started"


class Guard:
    """Guards one target from inside this process, from `start` to `stop`. Every method may be called by any thread.

    A hook registered here is asked for memory on a thread of the guard's, never on yours; callbacks run on another.
    Whatever a hook or a callback does, raise, block or lie, the next tick comes in time.
    """

    __slots__ = ("__weakref__", "_after_fork", "_audience", "_briefing", "_engine", "_finalizer", "_gauges", "_hooks",
                 "_log", "_on_level", "_phase", "_plugin_problems", "_problem")

    def __init__(
        self, target: str = "self", *, name: str = "", rules: str | os.PathLike[str] | None = None, model: str = "",
        cadence_s: float | None = None, limit_bytes: int | None = None, device_type: str = "",
        on_level: OnLevel | None = None, log: LogTo = "auto", runtime_dir: str | os.PathLike[str] = "",
        dry_run: bool = False, after_fork: Literal["inert", "restart"] = "inert", allow_unsigned: bool = False,
        entry_points: bool | Sequence[str] = False,
    ) -> None:
        """Check everything; start nothing.

        Args:
            target: `self` (this process, within its cgroups), `system`, `pid:N`, `cgroup:/PATH`, `unit:NAME` or
                `command:NAME`.
            name: of the target, in logs and requests; default: what `target` names.
            rules: a rule file; default: the shipped default.yaml. Its `targets` give way to `target`.
            model: `shipped`, `none`, or the folder of a bundle; default: as the rules say (`shipped`).
            cadence_s: seconds between two readings, 0.1 to 10; default: as the rules say (1).
            limit_bytes: what the device lets this app use, where no cgroup says so.
            device_type: whose learned thresholds hold; default: the model's own.
            on_level: called with each LevelChange, on a thread of its own, one at a time.
            log: a function `(event, severity, fields)`; None: silent; `auto`: the logger `oomguard` if this program
                has imported `logging` before `start`, else warnings and worse on standard error.
            runtime_dir: folder in which the window outlives a restart of the app; default: in memory only.
            dry_run: decide and log, call no hook.
            after_fork: what a forked child's copy does: `inert` (nothing, until `start`) or `restart`.
            allow_unsigned: take a model that nothing vouches for.
            entry_points: hooks that other distributions bring in the group `oomguard.hooks`: True: every one that
                loads; names: these.

        Raises:
            ConfigError: the rules or a value are wrong.
            UsageError: there is no such form of target or of `after_fork`, or no such entry point.
        """
        if after_fork not in ("inert", "restart"):
            raise UsageError(f"after_fork {after_fork!r} is not inert or restart")
        plan = plan_of(target, name, rules, model, cadence_s, limit_bytes, device_type, dry_run)
        loaded, model_problem = model_of(plan, allow_unsigned=allow_unsigned)
        options = Options(os.fspath(runtime_dir), model_problem=model_problem)
        self._briefing = Briefing(plan, loaded, options)
        self._hooks = {hook.name: Hook.from_plan(hook) for hook in plan.hooks}
        self._on_level, self._log, self._after_fork = on_level, log, after_fork
        self._phase: str | None = None
        self._problem = NOT_STARTED
        self._engine: Engine | None = None
        self._finalizer: weakref.finalize[[], Guard] | None = None
        self._audience = Audience()
        self._gauges: dict[str, Callable[[], float]] = {}
        self._plugin_problems: list[str] = []
        watch_over(self)
        if entry_points:
            self._load(entry_points)

    # -- what the app tells ----------------------------------------------------------------------------------

    def hook(self, name: str, *, cost: float = 1.0, deadline_s: float = 5.0,
             minimum_bytes: int = 1 << 20) -> Callable[[_Free], _Free]:
        """Register the decorated function as what gives memory back: `free(request) -> bytes freed, or None`.

        Args:
            name: as rules call it; `any` in rules stands for every hook.
            cost: of a byte given back, beside the other hooks'; the cheapest is asked first.
            deadline_s: how long a call may take, > 0; a longer one is logged as failed, and not waited for.
            minimum_bytes: asking for less is not worth the trouble.

        Raises:
            UsageError: the name is taken, or a number makes no sense.
        """
        def register(free: _Free) -> _Free:
            try:
                hook = Hook.from_call(name, free, cost=cost, deadline_s=deadline_s, minimum_bytes=minimum_bytes)
            except ValueError as error:
                raise UsageError(str(error)) from None
            with QUIET:
                if name in self._hooks or name == "any":
                    raise UsageError(f"hook {name!r}: the name is taken")
                self._hooks[name] = hook
                if self._engine is not None and self._engine.is_alive:
                    self._engine.add(hook)
            return free

        return register

    def adopt(self, what: Any, name: str = "", *, cost: float | None = None, size: Size | None = None,
              lock: object = None, post: Post | None = None) -> Adaptor:
        """Register what the app holds as a hook that gives it back, by the adaptor that fits, and read how much it is.

        Args:
            what: a function of functools.lru_cache or cachetools.cached; a dict, OrderedDict or other mapping; a deque
                or list that keeps a weak pool alive; a store like diskcache's; a connection of sqlite3; the module
                gc, pyarrow, torch or numpy; or an adaptor of `oomguard.adaptors`.
            name: as rules call it; needed for what has no name of its own.
            cost: of a byte given back, beside the other hooks'; default: the adaptor's.
            size: bytes that one value holds; default: looked at, within bounds.
            lock: which the app takes around it.
            post: takes work to the one thread that may touch it: `loop.call_soon_threadsafe`, a thread's `queue.put`.

        Raises:
            UsageError: nothing fits, the name is missing or taken, or a lock is.
        """
        from oomguard.adaptors.choose import adaptor_for  # who adopts nothing does not pay for it

        adaptor = adaptor_for(what, name, cost=cost, size=size, lock=lock, post=post)
        self.hook(adaptor.name, cost=adaptor.cost, deadline_s=adaptor.deadline_s,
                  minimum_bytes=adaptor.minimum_bytes)(adaptor)
        self._hooks[adaptor.name].evictable_bytes = adaptor.evictable_bytes()
        self._gauges[adaptor.name] = adaptor.evictable_bytes
        return adaptor

    def gauge(self, hook: str, evictable_bytes: float | None) -> None:
        """Say how much a hook could give back now: 0: it is not asked; None: unknown.

        Raises:
            UsageError: there is no such hook, or the number is negative.
        """
        if hook not in self._hooks:
            raise UsageError(f"no hook is called {hook!r}; there are: {', '.join(self._hooks) or 'none'}")
        known = NAN if evictable_bytes is None else float(evictable_bytes)
        if known < 0:
            raise UsageError(f"gauge {hook}: {evictable_bytes!r} is not a number of bytes from 0")
        self._hooks[hook].evictable_bytes = known

    def state(self, phase: str | None) -> None:
        """Say what the app does now, in its own word: `playback`, `browsing`; None: unknown."""
        self._phase = phase
        engine = self._engine
        if engine is not None:
            engine.phase = phase

    # -- what the app asks -----------------------------------------------------------------------------------

    @property
    def level(self) -> int:
        """How near a kill is, 0…5; 0, too, while nothing is guarded."""
        engine = self._engine
        return 0 if engine is None else engine.level

    @property
    def reading(self) -> Reading | None:
        """The last tick's sample, forecast and level; None while nothing is guarded."""
        engine = self._engine
        return None if engine is None else engine.reading

    @property
    def forecast(self) -> Forecast | None:
        """The probabilities of a kill within 60, 120 … 300 s; None without a model, or while it abstains."""
        reading = self.reading
        return None if reading is None else reading.forecast

    @property
    def time_to_limit_s(self) -> float | None:
        """When a kill becomes likelier than not, in seconds; None: not within 300 s, or no forecast."""
        forecast = self.forecast
        return None if forecast is None else time_to_limit_s(forecast)

    @property
    def is_guarding(self) -> bool:
        """Whether the target is there and read."""
        return not self.problem

    @property
    def problem(self) -> str:
        """Why nothing is guarded: not started, forked, the target is gone, unreadable; empty while all is well."""
        engine = self._engine
        return self._problem if engine is None else engine.problem

    @property
    def plan(self) -> Plan:
        """The checked rules and settings."""
        return self._briefing.plan

    def levels(self) -> Levels:
        """Return a queue of the changes of level from now on, for a thread or an event loop; take it before `start`
        to miss none. It ends when the guard stops.
        """
        with QUIET:
            self._retire_if_over()
            return self._audience.join()

    # -- its life --------------------------------------------------------------------------------------------

    def start(self) -> Guard:
        """Take the first reading, and go on from a thread. Does nothing while it runs; after `stop`, starts again.

        Raises:
            TargetGoneError: the target is not there, and cannot come.
            NotPermittedError: it may not be looked at.
        """
        with QUIET:
            self._retire_if_over()
            if self._engine is None:
                teller = Teller(self._log, self._on_level, self._audience)
                self._tell_settings(teller)
                engine = Engine(self._briefing, tuple(self._hooks.values()), teller, self._phase, self._gauges)
                self._engine, self._finalizer = engine, weakref.finalize(self, engine.drop)
                self._finalizer.atexit = False          # lives.py stops it in good order
        return self

    def stop(self) -> None:
        """Stop guarding: at once for ticks; a callback under way gets 1 s. Does nothing where it does not run."""
        with QUIET:
            engine = self._retire("stopped")
        if engine is not None:
            engine.stop()

    def __enter__(self) -> Guard:
        return self.start()

    def __exit__(self, _kind: type[BaseException] | None, _error: BaseException | None,
                 _traceback: TracebackType | None) -> None:
        self.stop()

    def __repr__(self) -> str:
        return f"<oomguard.Guard {self.plan.targets[0].name!r} {self.problem or f'level {self.level}'}>"

    def _load(self, entry_points: bool | Sequence[str]) -> None:
        from oomguard.adaptors.plugins import register_all, register_named  # importlib.metadata: 15 ms

        if entry_points is True:
            self._plugin_problems = register_all(self)
        elif entry_points:
            register_named(self, [entry_points] if isinstance(entry_points, str) else entry_points)

    def _tell_settings(self, teller: Teller) -> None:
        plan, model, options = self._briefing
        teller.event("start", rules=plan.source, rules_digest=plan.digest[:12], cadence_s=plan.cadence_s,
                     model="none" if model is None else model.model_id, scorer=scorer_in(model),
                     dry_run=plan.is_dry_run, target=plan.targets[0].name, hooks=list(self._hooks))
        if options.model_problem:
            teller.event("no-model", "warning", because=options.model_problem, what_follows="the plain levels hold")
        for problem in self._plugin_problems:
            teller.event("no-entry-point", "warning", because=problem)
        strange = [hook for hook in undeclared_hooks(plan) if hook not in self._hooks]
        if strange:
            teller.event("unknown-hooks", "warning", hooks=strange, because=f"{plan.source} names them, nobody "
                         "registered them")

    def _retire_if_over(self) -> None:
        """Let a life go that ended by itself: the target is gone."""
        if self._engine is not None and not self._engine.is_alive:
            self._retire(self._engine.problem)

    def _retire(self, problem: str) -> Engine | None:
        """Part with the engine; call it under QUIET."""
        engine, self._engine = self._engine, None
        if self._finalizer is not None:
            self._finalizer.detach()
            self._finalizer = None
        if engine is not None:
            self._problem, self._audience = problem, Audience()
        return engine

    def _forked(self) -> None:
        """Be told, in the child, that this process has just been forked: the thread is the parent's."""
        self._audience.forget()
        self._audience = Audience()
        # The window's file, too, is the parent's.
        self._briefing = self._briefing._replace(options=self._briefing.options._replace(runtime_dir=""))
        engine = self._retire(f"forked from process {os.getppid()}, which is guarded on; start() guards this one")
        if engine is None:
            return
        engine.forget()
        if self._after_fork == "restart":
            try:
                self.start()
            except Exception as error:  # noqa: BLE001  a fork must not fail for our sake; it is told, and `problem` says it
                self._problem = f"not restarted after the fork: {error}"
                Teller(self._log, None, self._audience).event("not-restarted", "warning", because=str(error))
