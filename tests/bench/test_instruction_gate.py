"""The regression gate: instructions, counted by valgrind, do not depend on how busy the machine is."""

import json
import shutil
import subprocess

import pytest

import instructions

SCORE = "static int score(const Forest *forest, const struct window *w, const double *facts, double *out)\n{\n"
WALK = "static void walk(const Forest *forest, const uint32_t *twice, double *margins)\n{\n"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Where programs and their input are; the input is written once."""
    if shutil.which("valgrind") is None:
        pytest.skip("valgrind is not installed")
    return tmp_path_factory.mktemp("counted")


@pytest.fixture(scope="module")
def baseline():
    return json.loads(instructions.BASELINE.read_text())


@pytest.fixture(scope="module")
def plain(folder):
    """What our kernel takes."""
    return instructions.gate(folder)


def slowed(folder, where, name, burned):
    """Return the counts of a kernel with a loop inserted that burns so many instructions."""
    source = instructions.KERNEL.read_text()
    assert source.count(where) == 1
    loop = f'    for (int burn = 0; burn < {burned // 3:.0f}; burn++) __asm__ volatile("nop");\n'
    kernel = folder / f"{name}.c"
    kernel.write_text(source.replace(where, where + loop))
    return instructions.gate(folder, kernel)


def test_our_kernel_takes_no_more_instructions_than_the_baseline(plain, baseline):
    """What `python bench/instructions.py --update` wrote holds, within the stated margin."""
    assert instructions.over(plain, baseline, instructions.toolchain()) == []


def test_the_call_from_python_takes_no_more_either(folder, baseline):
    """What Python adds to the kernel is under the same gate."""
    assert instructions.over(instructions.count_python(folder), baseline, instructions.toolchain()) == []


@pytest.mark.parametrize(("where", "stage"), [(SCORE, "score"), (WALK, "walk")])
def test_a_kernel_made_ten_percent_slower_is_caught(where, stage, folder, plain):
    """A loop inserted into the kernel, a tenth of the stage long, is over the margin."""
    counts = slowed(folder, where, f"slow_{stage}", plain[stage]["Ir"] * 0.1)
    assert 1.08 < counts[stage]["Ir"] / plain[stage]["Ir"] < 1.13       # the loop was not optimised away
    problems = instructions.over(counts, {"toolchain": {}, "counts": plain}, {})
    assert [problem.partition(":")[0] for problem in problems if problem.startswith(stage)] == [stage]


def test_two_percent_are_within_the_margin(folder, plain):
    """Less than the margin is not a failure: a compiler's patch release moves as much."""
    counts = slowed(folder, SCORE, "little", plain["score"]["Ir"] * 0.02)
    assert 1.01 < counts["score"]["Ir"] / plain["score"]["Ir"] < 1.04
    assert instructions.over(counts, {"toolchain": {}, "counts": plain}, {}) == []


def test_two_counts_of_one_program_are_the_same(folder, plain):
    """Deterministic: to the instruction."""
    assert instructions.gate(folder) == plain


def test_another_compiler_has_a_wider_margin():
    """A baseline by another compiler says less, and the margin says so."""
    kept = {"toolchain": {"cc": "a"}, "counts": {"walk": {"Ir": 100.0}}}
    assert instructions.over({"walk": {"Ir": 110.0}}, kept, {"cc": "b"}) == []
    assert len(instructions.over({"walk": {"Ir": 110.0}}, kept, {"cc": "a"})) == 1
    assert len(instructions.over({"walk": {"Ir": 130.0}}, kept, {"cc": "b"})) == 1


def test_another_processor_is_not_compared():
    """What AVX2 does in one instruction takes others two, and a baseline from there says nothing here."""
    kept = {"toolchain": {"cc": "a", "avx2": "True"}, "counts": {"walk": {"Ir": 100.0}}}
    assert instructions.over({"walk": {"Ir": 200.0}}, kept, {"cc": "a", "avx2": "False"}) == []
    assert len(instructions.over({"walk": {"Ir": 200.0}}, kept, {"cc": "a", "avx2": "True"})) == 1


def test_with_and_without_avx2_the_bits_are_the_same(folder, plain):
    """What is chosen at run time for a better processor computes the same features and forecasts."""
    data, program = folder / "made.input", instructions.build(folder)
    said = [subprocess.run([str(program), str(data), "all", "512", *more], check=True, capture_output=True).stdout
            for more in ((), ("plain",))]
    assert said[0] == said[1]
