"""`oomguard learn`: from recordings to a bundle. Off the device; needs the `learn` extra."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from typing import TYPE_CHECKING, Any

from oomguard.cli import learn_dataset, learn_lab, learn_loop, learn_report, learn_simulate, learn_thresholds
from oomguard.cli.progress import draw_bar
from oomguard.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from oomguard.learn.bundle.make import Trained
    from oomguard.learn.zoo.recipe import Recipe

MODULES = (learn_lab, learn_simulate, learn_dataset, learn_thresholds, learn_loop, learn_report)
NAME = "learn"
HELP = "train, measure and compile models from recordings (off the device)"
EXAMPLES = """\
  oomguard learn lab models/lab.yaml --work /var/tmp/lab --out models/recordings/lab
  oomguard learn train models/recipes/default.yaml --out models/default --evaluation out/evaluation
  oomguard learn zoo models/recipes/*.yaml --json > zoo.json
  oomguard learn report out/evaluation --zoo zoo.json --out out/report
  oomguard learn compile booster.json --out forest.bin
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what `learn` takes: one of its own verbs."""
    steps = parser.add_subparsers(dest="step", metavar="STEP", required=True)
    train = steps.add_parser("train", help="train a recipe's model, measure it, write its bundle")
    train.add_argument("recipe", help="recipe file (YAML)")
    train.add_argument("--out", required=True, metavar="FOLDER", help="where the bundle goes")
    train.add_argument("--json", action="store_true", help="print the figures as JSON, as `evaluate` does")
    train.add_argument("--evaluation", metavar="FOLDER", help="keep the evaluation there, for `learn report`")
    evaluate = steps.add_parser("evaluate", help="cross-validate a recipe beside every baseline")
    evaluate.add_argument("recipe", help="recipe file (YAML)")
    evaluate.add_argument("--out", metavar="FOLDER", help="keep the evaluation there, for `learn report`")
    evaluate.add_argument("--json", action="store_true", help="print everything as JSON")
    zoo = steps.add_parser("zoo", help="train and compare recipes of several kinds, beside every baseline")
    zoo.add_argument("recipes", nargs="+", metavar="RECIPE", help="recipe files (YAML) with the same data and costs")
    zoo.add_argument("--out", metavar="FOLDER", default="", help="where their bundles go, each in one of its name")
    zoo.add_argument("--json", action="store_true", help="print everything as JSON")
    for step in MODULES:
        step.add_arguments(steps.add_parser(step.NAME, help=step.HELP, epilog="examples:\n" + step.EXAMPLES,
                                            formatter_class=argparse.RawDescriptionHelpFormatter))
    compile_ = steps.add_parser("compile", help="flatten a tree model (XGBoost, LightGBM, treelite) into a forest file")
    compile_.add_argument("model", help="booster .json or .ubj, LightGBM .txt, treelite .tl")
    compile_.add_argument("--out", required=True, metavar="FILE", help="where the forest file goes")


def run(args: argparse.Namespace) -> int:
    """Do one step; return the exit code."""
    steps: dict[str, Callable[[argparse.Namespace], int]] = {
        "train": _train, "evaluate": _evaluate, "zoo": _zoo, "compile": _compile,
        **{step.NAME: step.run for step in MODULES}}
    try:
        return steps[args.step](args)
    except ModuleNotFoundError as missing:
        raise UsageError(f"learn needs {missing.name}: pip install 'oomguard[learn]'") from None


def _train(args: argparse.Namespace) -> int:
    from oomguard.learn.bundle.make import write_bundle, write_shipped
    from oomguard.learn.zoo.recipe import read_recipe
    from oomguard.trust import bundle

    recipe = read_recipe(args.recipe)
    begun_s = time.monotonic()
    trained = _measured(recipe)
    digest = write_bundle(trained, recipe, args.out)
    if os.path.realpath(args.out) == os.path.realpath(bundle.shipped_folder()):
        write_shipped(digest, os.path.join(os.path.dirname(os.path.abspath(bundle.__file__)), "shipped.py"))
    bundle.load_bundle(args.out, expect_digest=digest)
    _keep(args.evaluation, trained, recipe)
    _print_report(trained.report, as_json=args.json)
    model = trained.fitted.model
    print(f"{args.out}: {model.file} of {len(model.data)} bytes, manifest sha256 {digest[:12]}…, trained "
          f"and measured in {time.monotonic() - begun_s:.0f} s", file=sys.stderr)
    return 0


def _evaluate(args: argparse.Namespace) -> int:
    from oomguard.learn.zoo.recipe import read_recipe

    recipe = read_recipe(args.recipe)
    trained = _measured(recipe)
    _keep(args.out, trained, recipe)
    _print_report(trained.report, as_json=args.json)
    return 0


def _measured(recipe: Recipe) -> Trained:
    """Train and measure in every split, and say of each miss and false alarm why it was."""
    from oomguard.learn.bundle.make import train
    from oomguard.learn.evaluate.explain import explain
    from oomguard.learn.lab.planned import planned_of

    trained = train(recipe, draw_bar)
    explain(trained.report, trained.runs, trained.systems, planned_of(recipe.recordings))
    return trained


def _keep(folder: str | None, trained: Trained, recipe: Recipe) -> None:
    from oomguard.learn.evaluate import artefact

    if folder:
        artefact.save(folder, trained.report, trained.runs, trained.systems, recipe.recordings, trained.data_digest)


def _zoo(args: argparse.Namespace) -> int:
    from oomguard.learn.bundle.zoo_compare import train_zoo, zoo_table

    report = train_zoo(args.recipes, args.out, draw_bar)
    print(json.dumps(report, indent=1, allow_nan=False) if args.json else zoo_table(report))
    return 0


def _compile(args: argparse.Namespace) -> int:
    from oomguard.learn.zoo import compile as compiler

    if not os.path.isfile(args.model):
        raise UsageError(f"{args.model}: no such file")
    data = compiler.to_bytes(compiler.load(args.model))
    with open(args.out, "wb") as file:
        file.write(data)
    print(f"{args.out}: {len(data)} bytes")
    return 0


def _print_report(report: dict[str, Any], *, as_json: bool) -> None:
    from oomguard.learn.bundle.card import table_of

    if as_json:
        print(json.dumps(report, indent=1, allow_nan=False))
        return
    for title, key in (("leave one program out", "systems"), ("split by run", "systems_by_run"),
                       ("leave one device type out", "systems_by_device_type")):
        if report[key]:
            print(f"{title}:\n\n{table_of(report[key])}\n")
