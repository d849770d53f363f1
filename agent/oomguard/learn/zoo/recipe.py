"""A recipe: everything that decides what a model becomes, in one small YAML file."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any, get_type_hints

import yaml

from oomguard import features
from oomguard.errors import ConfigError

MAX_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class Simulation:
    """How many simulated runs help to train, and how much they weigh beside the recordings."""

    runs: int = 0
    seed: int = 1
    share: float = 0.5
    rows_per_run: int = 24


@dataclass(frozen=True, slots=True)
class Trees:
    """XGBoost's parameters (binary:hist, softmax over six classes): kind `xgboost`."""

    rounds: int = 40
    depth: int = 5
    learning_rate: float = 0.15
    min_child_weight: float = 10.0
    l2: float = 5.0
    row_share: float = 0.8
    column_share: float = 0.6
    threads: int = 1
    bins: int = 64
    objective: str = "softmax"              # over six classes, or `survival`: one score, the time to the kill

    @property
    def in_words(self) -> str:
        """What is trained, as a card says it."""
        if self.objective == "survival":
            return (f"{self.rounds} XGBoost trees of depth <= {self.depth} for the time to the kill "
                    "(accelerated failure time)")
        return f"{self.rounds} rounds x 6 classes of XGBoost trees of depth <= {self.depth}"


@dataclass(frozen=True, slots=True)
class AdaBoost:
    """scikit-learn's AdaBoostClassifier (SAMME over shallow trees): kind `adaboost`."""

    rounds: int = 40
    depth: int = 4
    learning_rate: float = 0.5
    column_share: float = 0.3               # tried at each split
    least_leaf_ratio: float = 0.002         # of the weight of all rows, in every leaf

    @property
    def in_words(self) -> str:
        """What is trained, as a card says it."""
        return f"AdaBoost over {self.rounds} trees of depth <= {self.depth}"


@dataclass(frozen=True, slots=True)
class RandomForest:
    """scikit-learn's RandomForestClassifier: kind `forest`."""

    trees: int = 64
    depth: int = 8
    least_leaf_ratio: float = 0.0005        # of the weight of all rows, in every leaf
    column_share: float = 0.4
    row_share: float = 0.6

    @property
    def in_words(self) -> str:
        """What is trained, as a card says it."""
        return f"A random forest of {self.trees} trees of depth <= {self.depth}"


@dataclass(frozen=True, slots=True)
class Network:
    """scikit-learn's MLPClassifier (Adam, ReLU): kind `ann`."""

    hidden: tuple[int, ...] = (32, 16)
    epochs: int = 12
    learning_rate: float = 0.002
    l2: float = 0.01
    batch_rows: int = 256

    @property
    def in_words(self) -> str:
        """What is trained, as a card says it."""
        return f"A neural network with hidden layers of {', '.join(map(str, self.hidden))}"


@dataclass(frozen=True, slots=True)
class ElasticNet:
    """scikit-learn's LogisticRegression by SAGA, penalty l1_share * L1 + (1 - l1_share) * L2: kind `elastic-net`."""

    inverse_penalty: float = 0.01           # scikit-learn's C, on weights whose mean is 1
    l1_share: float = 0.5
    epochs: int = 60

    @property
    def in_words(self) -> str:
        """What is trained, as a card says it."""
        return f"A linear softmax with an elastic-net penalty of which {self.l1_share:.0%} is L1"


Settings = Trees | AdaBoost | RandomForest | Network | ElasticNet
KINDS: dict[str, type[Settings]] = {
    "xgboost": Trees, "adaboost": AdaBoost, "forest": RandomForest, "ann": Network, "elastic-net": ElasticNet}


@dataclass(frozen=True, slots=True)
class Inputs:
    """What the model may look at."""

    rows_per_run: int = 120                 # of a recorded run; neighbouring samples say the same
    left_out: tuple[str, ...] = ()          # features it never sees
    hidden_share: float = 0.3               # of runs in which a group of facts is hidden while learning
    range_margin_ratio: float = 0.1         # the trained range is widened by so much of its width at both ends
    range_kept: tuple[str, ...] = ()        # left out of the trees, yet the model abstains outside their range


@dataclass(frozen=True, slots=True)
class Levels:
    """The event cost that thresholds minimise."""

    miss_to_false_alarm: float = 20.0
    field_kills_per_h: float = 1.0


@dataclass(frozen=True, slots=True)
class Evaluation:
    """How the figures are made."""

    folds_by_run: int = 5
    seed: int = 1


@dataclass(frozen=True, slots=True)
class Recipe:
    """The whole recipe. `recordings` are folders, resolved against the recipe's own."""

    name: str
    release: int                # a service refuses one older than the one it runs
    seed: int
    recordings: tuple[str, ...]
    simulation: Simulation = field(default_factory=Simulation)
    inputs: Inputs = field(default_factory=Inputs)
    trees: Trees = field(default_factory=Trees)     # the same as `model: {kind: xgboost, …}`
    model: Settings | None = None                   # None: XGBoost, by `trees`
    levels: Levels = field(default_factory=Levels)
    evaluation: Evaluation = field(default_factory=Evaluation)
    path: str = ""
    digest: str = ""

    @property
    def settings(self) -> Settings:
        """What kind of model is trained, and how."""
        return self.trees if self.model is None else self.model

    @property
    def kind(self) -> str:
        """The name of that kind."""
        return next(name for name, settings in KINDS.items() if type(self.settings) is settings)


def read_recipe(path: str) -> Recipe:
    """Return the recipe in a file; `like: OTHER.yaml` takes from another what it does not say itself.

    Raises:
        ConfigError: it is not YAML, too large, or a key or value is wrong; unknown keys are refused.
    """
    text, raw = _read(path)
    if isinstance(raw, dict) and isinstance(raw.get("like"), str):
        base_path = os.path.join(os.path.dirname(path), raw["like"])
        base_text, base = _read(base_path)
        text, raw = base_text + text, _overlaid(base, raw, base_path)
    recipe = _build(Recipe, raw, path, "")
    for name in (*recipe.inputs.left_out, *recipe.inputs.range_kept):
        if name not in features.NAMES:
            raise ConfigError(f"{name!r} is no feature", file=path, path="inputs")
    folder = os.path.dirname(os.path.abspath(path))
    places = tuple(os.path.normpath(os.path.join(folder, place)) for place in recipe.recordings)
    values = {item.name: getattr(recipe, item.name) for item in fields(Recipe)}
    return Recipe(**{**values, "recordings": places, "path": path, "digest": hashlib.sha256(text).hexdigest()})


def _read(path: str) -> tuple[bytes, object]:
    """Return the bytes of a recipe file and what YAML makes of them."""
    try:
        with open(path, "rb") as file:
            text = file.read(MAX_BYTES + 1)
    except OSError as problem:
        raise ConfigError(problem.strerror or str(problem), file=path) from None
    if len(text) > MAX_BYTES:
        raise ConfigError(f"larger than {MAX_BYTES} bytes", file=path)
    try:
        return text, yaml.safe_load(text)
    except yaml.YAMLError as problem:
        raise ConfigError(str(problem), file=path) from None


def _overlaid(base: object, own: dict[str, Any], base_path: str) -> dict[str, Any]:
    """Return a recipe `like` another: its own sections in place of the other's, whose model it never inherits."""
    if not isinstance(base, dict) or "like" in base:
        raise ConfigError("a recipe that is like no other was expected", file=base_path, path="like")
    folder = os.path.abspath(os.path.dirname(base_path))
    kept = {key: value for key, value in base.items() if key not in ("trees", "model")}
    if isinstance(kept.get("recordings"), list):        # they are relative to the file that names them
        kept["recordings"] = [os.path.join(folder, str(place)) for place in kept["recordings"]]
    return {**kept, **{key: value for key, value in own.items() if key != "like"}}


def _build(kind: Any, raw: object, file: str, path: str) -> Any:
    """Return a dataclass of `kind` from a mapping, every key known and every value of its type."""
    if not isinstance(raw, dict):
        raise ConfigError("a mapping was expected", file=file, path=path)
    hints = {name: hint for name, hint in get_type_hints(kind).items() if name not in ("path", "digest")}
    values: dict[str, Any] = {}
    for key, value in raw.items():
        where = f"{path}.{key}" if path else str(key)
        if key not in hints:
            raise ConfigError(f"not one of {', '.join(sorted(hints))}", file=file, path=where)
        values[key] = _value(hints[key], value, file, where)
    if "model" in values and "trees" in values:
        raise ConfigError("`trees` is the model of kind xgboost: name one of the two", file=file, path="trees")
    missing = [name for name in ("name", "release", "seed", "recordings") if kind is Recipe and name not in values]
    if missing:
        raise ConfigError(f"{', '.join(missing)} missing", file=file, path=path)
    return kind(**values)


def _value(hint: Any, value: object, file: str, path: str) -> Any:
    if hint == Settings | None:
        return _settings(value, file, path)
    return _build(hint, value, file, path) if is_dataclass(hint) else _plain(hint, value, file, path)


def _settings(raw: object, file: str, path: str) -> Any:
    """Return the settings in a `model:` section, which are those of its `kind`."""
    kind = raw.get("kind") if isinstance(raw, dict) else None
    if not isinstance(raw, dict) or not isinstance(kind, str) or kind not in KINDS:
        raise ConfigError(f"{kind!r} is not one of {', '.join(KINDS)}", file=file, path=f"{path}.kind")
    return _build(KINDS[kind], {key: value for key, value in raw.items() if key != "kind"}, file, path)


def _plain(hint: Any, value: Any, file: str, path: str) -> Any:
    if hint is float and isinstance(value, int | float) and not isinstance(value, bool):
        if not 0 <= value < 1e6:
            raise ConfigError(f"{value} is not in 0..1e6", file=file, path=path)
        return float(value)
    if hint is int and isinstance(value, int) and not isinstance(value, bool):
        if not 0 <= value < 1 << 31:
            raise ConfigError(f"{value} is not in 0..2^31", file=file, path=path)
        return value
    if hint is str and isinstance(value, str):
        return value
    if hint == tuple[str, ...] and isinstance(value, list) and all(isinstance(item, str) for item in value):
        return tuple(value)
    if hint == tuple[int, ...] and isinstance(value, list) and value:
        return tuple(_plain(int, item, file, path) for item in value)
    kinds = {float: "a number", int: "a whole number", str: "text", tuple[int, ...]: "a list of whole numbers"}
    raise ConfigError(f"{value!r} is not {kinds.get(hint, 'a list of texts')}", file=file, path=path)
