"""Every member of the zoo: what the device runs says what its trainer says, unknown values included, every time."""

from __future__ import annotations

import numpy as np
import pytest
import treelite

from oomguard import features
from oomguard.errors import ConfigError
from oomguard.forest import CLASSES
from oomguard.learn import zoo
from oomguard.learn.train.model import Model
from oomguard.learn.zoo import compile as compiler
from oomguard.learn.zoo.adaboost import filled
from oomguard.learn.zoo.graph import scaling_of
from oomguard.learn.zoo.member import FOREST, ONNX, with_every_class
from oomguard.learn.zoo.recipe import KINDS, AdaBoost, ElasticNet, Network, RandomForest, Trees, read_recipe
from oomguard.net import Net

EVERYWHERE = [-np.inf] * features.COUNT, [np.inf] * features.COUNT
SMALL = {
    "xgboost": Trees(rounds=4, depth=3), "adaboost": AdaBoost(rounds=6, depth=3),
    "forest": RandomForest(trees=6, depth=5), "ann": Network(hidden=(8,), epochs=3),
    "elastic-net": ElasticNet(inverse_penalty=1.0, epochs=20)}


def material(seed=1, n=1200):
    """Return (rows, labels, weight): two features tell the class, a fifth of everything is unknown."""
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(n, features.COUNT)).astype(np.float32)
    labels = np.clip(np.floor(rows[:, 0] + 0.5 * rows[:, 1] + 3), 0, CLASSES - 1).astype(np.int8)
    rows[rng.random(rows.shape) < 0.2] = np.nan
    rows[:, 5] = np.nan                                                       # a feature that is left out
    weight = rng.uniform(0.2, 2.0, n).astype(np.float32)
    return rows, labels, weight / weight.mean()


@pytest.fixture(scope="module", params=sorted(KINDS))
def member(request):
    """Return a small trained member of each kind."""
    return zoo.fit(SMALL[request.param], *material(), 1)


def compiled_of(member):
    made = member.compiled()
    return Model(made.data, *EVERYWHERE, made.file)


def test_what_the_device_runs_says_what_the_trainer_says(member):
    """Class probabilities agree on rows it has not seen, unknown values and rows of nothing else among them."""
    rows = material(2)[0]
    rows[:3] = np.nan
    rows[3:6] *= 1e6
    np.testing.assert_allclose(compiled_of(member).classes(rows), member.predict(rows), atol=5e-6)


def test_it_has_learned_something(member):
    """On other rows of the same kind the likeliest class is right far more often than by chance."""
    rows, labels, _weight = material(3)
    likeliest = member.predict(rows).argmax(axis=1)
    assert (likeliest == labels).mean() > 1.5 / CLASSES


def test_training_twice_gives_the_same_bytes(member):
    """The seed decides all that is left to chance; another seed or other rows decide otherwise."""
    again = zoo.fit(member.settings, *material(), 1).compiled()
    assert again == member.compiled()
    assert zoo.fit(member.settings, *material(4), 1).compiled().data != again.data


def test_trees_become_forests_and_the_others_graphs(member):
    """The bundle's file is the one whose name says how it is run."""
    is_tree = isinstance(member.settings, Trees | AdaBoost | RandomForest)
    assert member.compiled().file == (FOREST if is_tree else ONNX)


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_a_class_that_never_happens_is_there_all_the_same(kind):
    """A fold without a single row of some class still gives six probabilities, that class's next to none."""
    rows, labels, weight = material(5)
    kept = labels < 4
    member = zoo.fit(SMALL[kind], rows[kept], labels[kept], weight[kept], 1)
    said = compiled_of(member).classes(rows)
    assert said.shape == (len(rows), CLASSES)
    assert said[:, 4:].mean() < 0.2


def test_nothing_is_added_where_every_class_happens():
    """Rows that have all classes are handed on untouched."""
    rows, labels, weight = material()
    assert all(a is b for a, b in zip(with_every_class(rows, labels, weight), (rows, labels, weight), strict=True))


# -- adaboost ------------------------------------------------------------------------------------------------------

def test_adaboost_margins_are_the_decision_function():
    """The summed leaves, times K - 1, are scikit-learn's own decision function, not just its order."""
    from oomguard import forest

    rows = material(2)[0][:100]
    member = zoo.fit(SMALL["adaboost"], *material(), 1)
    trees = forest.unpack(member.compiled().data)
    margins = np.array([forest.reference_margins(trees, row.tolist()) for row in rows])
    np.testing.assert_allclose(margins * (CLASSES - 1), member.model.decision_function(filled(rows)), atol=1e-6)


def test_adaboost_is_to_treelite_what_it_is_to_us():
    """treelite's own reference scorer is the second oracle of what was built with its builder."""
    rows = material(2)[0]
    member = zoo.fit(SMALL["adaboost"], *material(), 1)
    said = treelite.gtil.predict(compiler.from_adaboost(member.model), rows, nthread=1).reshape(len(rows), CLASSES)
    np.testing.assert_allclose(said, member.predict(rows), atol=1e-6)


# -- graphs --------------------------------------------------------------------------------------------------------

def test_scaling_is_of_what_is_known():
    """Medians and quartiles are of known values, what is never known is no input, a constant is divided by itself."""
    rows = np.full((100, features.COUNT), np.nan, np.float32)
    rows[:, 0] = np.arange(100)
    rows[:50, 1] = 7.0
    scaling = scaling_of(rows, np.ones(100, np.float32))
    assert scaling.columns.tolist() == [0, 1]
    assert scaling.centre.tolist() == [49.0, 7.0]
    assert scaling.width.tolist() == [50.0, 1.0]
    assert scaling.flagged.tolist() == [1]          # unknown in half of the rows; the first never is


def test_inputs_stay_within_one_whatever_the_tail():
    """A slope a million times the usual one is squashed, an unknown one is the median and flagged."""
    rows = np.full((100, features.COUNT), np.nan, np.float32)
    rows[:50, 0] = np.linspace(-1, 1, 50)
    scaling = scaling_of(rows, np.ones(100, np.float32))
    rows[0, 0] = 1e9
    inputs = scaling.inputs(rows)
    assert np.abs(inputs).max() <= 1.0
    assert inputs[0].tolist() == [pytest.approx(1.0), 0.0]
    assert inputs[99].tolist() == [0.0, 1.0]


def test_a_graph_scores_one_row_as_it_scores_many():
    """Batches change nothing: targets that are asked about together get what they would get alone."""
    rows = material(2)[0][:40]
    made = zoo.fit(SMALL["ann"], *material(), 1).compiled()
    net = Net(made.data, *EVERYWHERE, [()] * 5)
    alone = np.concatenate([net.classes(rows[at:at + 1]) for at in range(len(rows))])
    np.testing.assert_allclose(net.classes(rows), alone, atol=1e-6)


# -- recipes -------------------------------------------------------------------------------------------------------

def recipe(tmp_path, text):
    path = tmp_path / "recipe.yaml"
    path.write_text(f"name: x\nrelease: 1\nseed: 1\nrecordings: []\n{text}\n")
    return read_recipe(str(path))


@pytest.mark.parametrize(("text", "settings"), [
    ("model: {kind: adaboost, rounds: 7}", AdaBoost(rounds=7)),
    ("model: {kind: forest, depth: 3}", RandomForest(depth=3)),
    ("model: {kind: ann, hidden: [4, 2]}", Network(hidden=(4, 2))),
    ("model: {kind: elastic-net, l1_share: 1}", ElasticNet(l1_share=1.0)),
    ("model: {kind: xgboost, rounds: 3}", Trees(rounds=3)),
    ("trees: {rounds: 3}", Trees(rounds=3)),
    ("", Trees()),
])
def test_a_recipe_names_its_kind(tmp_path, text, settings):
    """The `model` section has the settings of its kind; without one it is XGBoost, by `trees`."""
    read = recipe(tmp_path, text)
    assert read.settings == settings
    assert KINDS[read.kind] is type(settings)


def test_a_recipe_may_be_like_another(tmp_path):
    """What it does not say itself is the other's, but for the model; the digest covers both files."""
    base = recipe(tmp_path, "trees: {rounds: 7}\nevaluation: {folds_by_run: 4}")
    (tmp_path / "recipe.yaml").rename(tmp_path / "base.yaml")
    own = tmp_path / "own" / "own.yaml"
    own.parent.mkdir()
    own.write_text("like: ../base.yaml\nname: y\nmodel: {kind: ann}\n")
    (tmp_path / "base.yaml").write_text((tmp_path / "base.yaml").read_text().replace("[]", "[somewhere]"))
    read = read_recipe(str(own))
    assert (read.name, read.kind, read.evaluation.folds_by_run) == ("y", "ann", 4)
    assert read.recordings == (str(tmp_path / "somewhere"),)
    own.write_text("like: ../base.yaml\n")
    assert (read_recipe(str(own)).settings, base.settings) == (Trees(), Trees(rounds=7))
    assert read_recipe(str(own)).digest not in (base.digest, read.digest)


@pytest.mark.parametrize(("text", "says"), [
    ("like: recipe.yaml", "like no other was expected"), ("like: nowhere.yaml", "nowhere.yaml: No such file"),
    ("like: [a]", "like: not one of"),
])
def test_a_recipe_like_nothing_is_refused(tmp_path, text, says):
    """Itself, a chain of others, a file that is not there."""
    with pytest.raises(ConfigError, match=says):
        recipe(tmp_path, text)


@pytest.mark.parametrize(("text", "says"), [
    ("model: {kind: oracle}", "model.kind: 'oracle' is not one of xgboost"),
    ("model: {rounds: 3}", "model.kind: None is not one of"),
    ("model: [ann]", "model.kind: None is not one of"),
    ("model: {kind: ann, rounds: 3}", "model.rounds: not one of batch_rows"),
    ("model: {kind: ann, hidden: 3}", "model.hidden: 3 is not a list of whole numbers"),
    ("model: {kind: ann, hidden: [x]}", "model.hidden: 'x' is not a whole number"),
    ("model: {kind: xgboost}\ntrees: {rounds: 1}", "name one of the two"),
])
def test_a_kind_that_is_not_is_refused_with_its_place(tmp_path, text, says):
    """Kinds and settings of another kind are refused by name."""
    with pytest.raises(ConfigError, match=says):
        recipe(tmp_path, text)
